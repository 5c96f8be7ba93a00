"""No two modules define a public type of the same name."""

import re
from collections import defaultdict
from pathlib import Path

BOTH_IN_THE_CONTRACT = {"Asked"}
"""An event's type and the name of an answer in the OpenAPI document."""


def test_no_public_type_name_is_defined_twice() -> None:
    modules = defaultdict(set)
    for path in Path(__file__).parent.parent.glob("firmtrail/**/*.py"):
        for name in re.findall(r"(?m)^(?:class|type) ([A-Z]\w*)", path.read_text()):
            modules[name].add(str(path))
    doubled = {name for name, each in modules.items() if len(each) > 1}
    assert doubled == BOTH_IN_THE_CONTRACT
