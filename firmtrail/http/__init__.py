"""The edge: bytes in, bytes out; decides nothing."""
