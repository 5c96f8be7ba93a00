"""Shows a problem as a page: its words, all its faults, and a way back."""

from http import HTTPStatus

from aiohttp import web

from firmtrail.console import render
from firmtrail.http.call import AnyCall
from firmtrail.http.errors import FAULTS_MAX, Problem

TITLES = {
    400: "The request could not be read",
    401: "Sign in first",
    403: "Your role does not allow this",
    404: "There is nothing here",
    409: "A rule refuses this",
    410: "This is no longer available",
    412: "Somebody changed it meanwhile",
    422: "Something in the form or the address is wrong",
    429: "Too many attempts",
    500: "The server failed",
    503: "Not available for the moment",
}


def shown(call: AnyCall, problem: Problem) -> web.Response:
    """Returns the page of a problem, with its status and headers."""
    return render.problem(
        call,
        problem.status,
        headers=problem.headers,
        title=TITLES.get(problem.status, HTTPStatus(problem.status).phrase),
        problem=problem,
        faults=problem.faults[:FAULTS_MAX],
        request_id=call.request_id,
    )
