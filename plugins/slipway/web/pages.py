"""What all pages share: templates, headers that let no script run, and how a refusal is said."""

from __future__ import annotations

import secrets
from pathlib import Path
from typing import Any

from fastapi import Request
from fastapi.responses import HTMLResponse
from jinja2 import Environment, FileSystemLoader, StrictUndefined

_environment = Environment(
    loader=FileSystemLoader(Path(__file__).parent / "templates"),
    autoescape=True,
    undefined=StrictUndefined,
    trim_blocks=True,
    lstrip_blocks=True,
)


def base_of(request: Request) -> str:
    """The path that the pages are mounted at."""
    root: str = request.scope.get("root_path", "")
    return root.rstrip("/")


def page(request: Request, template: str, *, status: int = 200, **values: Any) -> HTMLResponse:
    """Render a page.

    Args:
        request: what was asked.
        template: in ``templates``.
        status: the answer's.
        values: for the template, besides ``base`` (of the pages) and ``airflow`` (above them).
    """
    nonce, base = secrets.token_urlsafe(16), base_of(request)
    text = _environment.get_template(template).render(
        **values, status=status, nonce=nonce, base=base, airflow=base.rpartition("/")[0]
    )
    headers = {
        "Content-Security-Policy": f"default-src 'none'; style-src 'nonce-{nonce}'; base-uri 'none'; "
        "form-action 'none'; frame-ancestors 'self'",
        "X-Content-Type-Options": "nosniff",
        "Referrer-Policy": "same-origin",
        "Cache-Control": "no-store",
    }
    return HTMLResponse(text, status_code=status, headers=headers)
