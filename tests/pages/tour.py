"""A way through the pages of a running service, found out from what it holds: for pictures and for measures."""

import time
from typing import Any

import httpx

TEXT = "They crossed the Danube by boat, and the lawyer read her their rights in Vienna."
PROMPT = "I think that"
_PATIENCE_S = 180.0


def find_pages(http: httpx.Client, *, patience_s: float = _PATIENCE_S) -> dict[str, str]:
    """Return the paths of pages by name; those of what the service does not hold are left out.

    The playground is shown with a result, so a text is read and a feature steered, if workers are there.
    """
    pages = {"home": "/", "search": "/search", "schedules": "/schedules", "runs": "/runs", "compare": "/compare"}
    dictionary, feature = _labelled(http)
    if dictionary is not None:
        pages["dictionary"] = f"/dictionaries/{dictionary['id']}"
    if dictionary is not None and feature is not None:
        pages["feature"] = f"/dictionaries/{dictionary['id']}/features/{feature['index']}"
        word = next(iter((feature["label"] or "").split()), "the")
        pages["search-result"] = str(httpx.URL("/search", params={"q": word}))
        pages["playground"] = _playground(http, dictionary["id"], feature["index"], patience_s)
    pages |= _runs(_items(http, "/v1/runs"))
    schedules = _items(http, "/v1/schedules")
    if schedules:
        pages["schedule"] = f"/schedules/{schedules[0]['id']}"
    return {name: path for name, path in pages.items() if _is_there(http, path)}


def _items(http: httpx.Client, path: str, **query: Any) -> list[dict[str, Any]]:
    items: list[dict[str, Any]] = http.get(path, params=query).raise_for_status().json()["items"]
    return items


def _is_there(http: httpx.Client, path: str) -> bool:
    return http.get(path, headers={"Accept": "text/html"}).status_code == 200


def _labelled(http: httpx.Client) -> tuple[dict[str, Any] | None, dict[str, Any] | None]:
    """Return the newest dictionary with a label that does well on both sides, and that feature; or what there is."""
    dictionaries = _items(http, "/v1/dictionaries")
    for query in ({"input_success": True, "output_success": True}, {}):
        for dictionary in dictionaries:
            path = f"/v1/dictionaries/{dictionary['id']}/features"
            found = _items(http, path, status="ok", sort="-output_lift", limit=1, **query)
            if found:
                return dictionary, found[0]
    return next(iter(dictionaries), None), None


def _runs(runs: list[dict[str, Any]]) -> dict[str, str]:
    done = [run for run in runs if run["state"] == "done"]
    pages = {}
    if done:
        pages["run"] = f"/runs/{done[0]['id']}"
        methods = done[0]["spec"]["methods"]
        pages["compare-methods"] = f"/compare?run={done[0]['id']}&methods={methods[0]}&methods={methods[-1]}"
    for one in done:
        others = [run for run in done if run["dictionary_id"] == one["dictionary_id"] and run["id"] != one["id"]]
        if others:
            pages["compare-runs"] = f"/compare?run={one['id']}&other={others[0]['id']}"
            break
    live = next((run for run in runs if run["state"] == "running"), None)
    if live:
        pages["run-live"] = f"/runs/{live['id']}"
    return pages


def _playground(http: httpx.Client, dictionary_id: str, feature: int, patience_s: float) -> str:
    """Return the address of the playground with what was tried just now."""
    root = f"/v1/dictionaries/{dictionary_id}"
    strengths = [0.5, -0.5, 2]
    steering = {"prompt": PROMPT, "strengths": strengths, "unit": "kl_nats"}
    made = [
        http.post(f"{root}/activations", params={"wait": 0}, json={"text": TEXT}),
        http.post(f"{root}/features/{feature}/steer", params={"wait": 0}, json=steering),
    ]
    ids = [answer.json()["id"] for answer in made if answer.is_success]
    until = time.monotonic() + patience_s
    for id_ in ids:
        while time.monotonic() < until and _is_under_way(http, id_):
            pass
    asked = {
        "dictionary": dictionary_id,
        "text": TEXT,
        "feature": feature,
        "prompt": PROMPT,
        "strengths": "0.5, -0.5, 2",
    }
    return str(httpx.URL("/playground", params={**asked, "trial": ids}))


def _is_under_way(http: httpx.Client, id_: str) -> bool:
    """Return whether a trial is not over, after a while if so."""
    answer = http.get(f"/v1/trials/{id_}", params={"wait": 10}).raise_for_status()
    return answer.json()["state"] in ("waiting", "running")
