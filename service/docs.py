"""The API's documentation as one page of plain HTML, made from its OpenAPI document alone."""

import base64
import hashlib
import json
import re
import shlex
from collections.abc import Iterable, Iterator, Mapping
from html import escape
from typing import Any

from fastapi import FastAPI, Request
from fastapi.responses import HTMLResponse

Node = Mapping[str, Any]

_STYLE = """
body { font: 16px/1.5 system-ui, sans-serif; max-width: 60rem; margin: 2rem auto; padding: 0 1rem; color: #222; }
h2 { margin-top: 2.5rem; text-transform: capitalize; }
details { border: 1px solid #ccc; border-radius: 4px; margin: .5rem 0; padding: .5rem 1rem; }
summary { cursor: pointer; }
summary code { font-weight: bold; }
pre { background: #f5f5f5; padding: .75rem; overflow-x: auto; font-size: .85rem; }
table { border-collapse: collapse; width: 100%; font-size: .9rem; }
th, td { text-align: left; vertical-align: top; padding: .25rem .75rem .25rem 0; border-bottom: 1px solid #eee; }
@media (prefers-color-scheme: dark) {
  body { background: #181818; color: #ddd; } pre { background: #222; } details { border-color: #444; }
  th, td { border-color: #333; } a { color: #8bf; }
}
"""
_STYLE_HASH = base64.b64encode(hashlib.sha256(_STYLE.encode()).digest()).decode()
_POLICY = f"default-src 'none'; style-src 'sha256-{_STYLE_HASH}'; base-uri 'none'; frame-ancestors 'none'"
_SHELL = (
    "Requests are for a shell: `GLOSSARIUM_API_URL` is where this page comes from, `GLOSSARIUM_API_KEY` a key of yours."
)


def install(app: FastAPI) -> None:
    """Serve the page at /docs."""

    @app.get("/docs", include_in_schema=False)
    def docs(request: Request) -> HTMLResponse:
        page = render(request.app.openapi())
        return HTMLResponse(page, headers={"Content-Security-Policy": _POLICY})


def render(document: Node) -> str:
    """Return an OpenAPI document as a page: operations by tag, with parameters, fields and examples."""
    title = escape(f"{document['info']['title']} API {document['info']['version']}")
    parts = [f"<h1>{title}</h1>", *_paragraphs(document["info"].get("description", ""))]
    parts.append(f"<p>{_inline(_SHELL)}</p>")
    parts.append('<p>For machines: <a href="/openapi.json">openapi.json</a></p>')
    for tag, operations in _by_tag(document).items():
        parts.append(f"<h2>{escape(tag)}</h2>")
        parts += [_operation(document, *operation) for operation in operations]
    head = f'<meta charset="utf-8"><meta name="viewport" content="width=device-width"><title>{title}</title>'
    body = "\n".join(parts)
    return f'<!doctype html><html lang="en"><head>{head}<style>{_STYLE}</style></head><body>{body}</body></html>'


def _by_tag(document: Node) -> dict[str, list[tuple[str, str, Node]]]:
    tags: dict[str, list[tuple[str, str, Node]]] = {}
    for path, methods in document["paths"].items():
        for method, operation in methods.items():
            tags.setdefault(operation["tags"][0], []).append((method.upper(), path, operation))
    return tags


def _operation(document: Node, method: str, path: str, operation: Node) -> str:
    parts = list(_paragraphs(operation.get("description", "")))
    rows = [
        (f"{item['name']} ({item['in']})", item.get("schema", {}), item) for item in operation.get("parameters", [])
    ]
    parts += _table("Parameter", rows)
    body = operation.get("requestBody", {})
    parts += _paragraphs(body.get("description", ""))
    for media, content in body.get("content", {}).items():
        fields = _resolve(document, content.get("schema", {})).get("properties", {})
        parts += _table(f"Field of the body ({media})", [(name, field, field) for name, field in fields.items()])
    for name, command in commands(method, path, operation):
        parts += _block("Request", name, command)
    for status, answer in operation["responses"].items():
        for content in answer.get("content", {}).values():
            parts += _examples("Error" if status == "default" else f"Response {status}", content)
    heading = f"<code>{method} {escape(path)}</code> {escape(operation.get('summary', ''))}"
    return f"<details><summary>{heading}</summary>{''.join(parts)}</details>"


def _table(name: str, rows: Iterable[tuple[str, Node, Node]]) -> Iterator[str]:
    lines = [
        f"<tr><td><code>{escape(label)}</code></td><td>{escape(_type(schema))}</td>"
        f"<td>{_inline(described.get('description', schema.get('description', '')))}</td></tr>"
        for label, schema, described in rows
    ]
    if lines:
        yield f"<table><tr><th>{escape(name)}</th><th>Type</th><th>Meaning</th></tr>{''.join(lines)}</table>"


def _type(schema: Node) -> str:
    """Return what a schema takes in a few words."""
    if "$ref" in schema:
        return str(schema["$ref"]).rsplit("/", 1)[-1]
    if "enum" in schema:
        return " | ".join(str(value) for value in schema["enum"])
    if "const" in schema:
        return str(schema["const"])
    for several in ("anyOf", "oneOf"):
        if several in schema:
            return " | ".join(_type(one) for one in schema[several])
    limits = [f"{sign} {schema[key]}" for key, sign in (("minimum", "≥"), ("maximum", "≤")) if key in schema]
    inner = f" of {_type(schema['items'])}" if "items" in schema else ""
    default = [f"default {json.dumps(schema['default'])}"] if schema.get("default") is not None else []
    return ", ".join([f"{schema.get('type', 'any')}{inner}", *limits, *default])


def commands(method: str, path: str, operation: Node) -> Iterator[tuple[str, str]]:
    """Yield an operation's requests as curl sends them, each with the name of its example or none.

    What is the caller's is a variable: an id in the path, a query parameter that must be given, a file.
    """
    needed = [item for item in operation.get("parameters", []) if item["in"] == "query" and item.get("required")]
    query = "&".join(f"{item['name']}=${item['name'].upper()}" for item in needed)
    url = re.sub(r"\{(\w+)\}", lambda found: f"${found[1].upper()}", path) + (f"?{query}" if query else "")
    verb = "" if method == "GET" else f" -X {method}"
    curl = f'curl{verb} "$GLOSSARIUM_API_URL{url}" -H "Authorization: Bearer $GLOSSARIUM_API_KEY"'
    bodies = operation.get("requestBody", {}).get("content", {})
    for media, content in bodies.items():
        typed = f'{curl} -H "Content-Type: {media}"'
        named = _named(content) if media == "application/json" else None
        if named is None:
            yield "", f'{typed} -T "$FILE"'
        for name, example in (named or {}).items():
            yield name, f"{typed} -d {shlex.quote(_text(example))}"
    if not bodies:
        yield "", curl


def _examples(label: str, content: Node) -> Iterator[str]:
    for name, example in _named(content).items():
        yield from _block(label, name, _text(example))


def _named(content: Node) -> dict[str, Any]:
    """Return the examples of what is sent by their names; one that has none is called ""."""
    named = {name: item["value"] for name, item in content.get("examples", {}).items()}
    return named | ({"": content["example"]} if "example" in content else {})


def _text(example: object) -> str:
    return json.dumps(example, indent=2, ensure_ascii=False)


def _block(label: str, name: str, text: str) -> Iterator[str]:
    yield f"<p>{escape(label)}{escape(f' ({name})' if name else '')}</p><pre>{escape(text)}</pre>"


def _resolve(document: Node, schema: Node) -> Node:
    if "$ref" not in schema:
        return schema
    found: Node = document["components"]["schemas"][schema["$ref"].rsplit("/", 1)[-1]]
    return found


def _paragraphs(text: str) -> Iterator[str]:
    for paragraph in text.strip().split("\n\n"):
        if paragraph:
            yield f"<p>{_inline(paragraph)}</p>"


def _inline(text: str) -> str:
    """Return a text as HTML, what stands between backticks as code."""
    return re.sub(r"`([^`\n]+)`", r"<code>\1</code>", escape(text))
