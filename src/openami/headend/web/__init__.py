"""The head-end's web: the API under ``/api/v1`` and the operator's console, one application.

app.py          puts it together; refuses to be built when a route has not declared who may use it
admission.py    who is it, may they: one dependency on every route
problems.py     errors as RFC 9457 for programs, as a page for people
api/            the API
console/        the pages
"""
