"""Shows a fleet to people in web pages, over the same queries and commands as the API.

Each page is one file with its routes and its template. A page uses the machinery of `http` and
everything below, but neither `http.api` nor `protocols`. docs/console.md says how a page joins.
"""
