"""Sites and facts about subjects, without torch."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from schema.errors import UnknownSite, UnknownSubject
from schema.settings import Settings
from schema.subjects import (
    BUNDLED,
    BUNDLED_FACTS,
    SITE_KINDS,
    Blocks,
    Site,
    SubjectFacts,
    check_allowed,
    facts_of_config,
    subject_facts,
    width,
)

LLAMA = {
    "model_type": "llama",
    "num_hidden_layers": 16,
    "hidden_size": 2048,
    "intermediate_size": 8192,
    "num_attention_heads": 32,
    "vocab_size": 128256,
}
GPT2 = {"model_type": "gpt2", "n_layer": 12, "n_embd": 768, "n_head": 12, "n_inner": None, "vocab_size": 50257}
NEOX = LLAMA | {"model_type": "gpt_neox"}
GEMMA = LLAMA | {"model_type": "gemma2", "head_dim": 256, "num_attention_heads": 8, "hidden_size": 2304}


@given(st.sampled_from(SITE_KINDS), st.integers(0, 999_999))
def test_a_site_round_trips(kind: str, layer: int) -> None:
    assert Site.parse(f"{kind}.{layer}") == Site(kind, layer)
    assert str(Site.parse(f"{kind}.{layer}")) == f"{kind}.{layer}"


def test_a_module_path_round_trips() -> None:
    site = Site.parse("module:model.layers.3.mlp")
    assert site == Site("module", path="model.layers.3.mlp")
    assert str(site) == "module:model.layers.3.mlp"


@pytest.mark.parametrize(
    "text",
    [
        "",
        "resid_post",
        "resid_post.",
        "resid_post.-1",
        "resid_post.x",
        "resid_post.²",
        "resid.3",
        "module:",
        "module.3",
    ],
)
def test_other_texts_name_the_value_and_the_kinds(text: str) -> None:
    with pytest.raises(UnknownSite) as caught:
        Site.parse(text)
    assert f"site={text!r}" in str(caught.value)
    assert "resid_post" in str(caught.value)


@given(st.text())
def test_any_text_is_a_site_or_a_clear_refusal(text: str) -> None:
    try:
        site = Site.parse(text)
    except UnknownSite:
        return
    assert Site.parse(str(site)) == site


def test_widths_of_the_bundled_subject() -> None:
    widths = {kind: width(BUNDLED_FACTS, Site(kind, 29)) for kind in SITE_KINDS}
    assert widths.pop("mlp_hidden") == 1536
    assert set(widths.values()) == {576}
    assert width(BUNDLED_FACTS, Site.parse("module:model.layers.0")) is None


def test_a_layer_out_of_range_names_the_limit() -> None:
    with pytest.raises(UnknownSite, match=r"layer=40; bundled:smollm2-135m-instruct has 0\.\.29"):
        width(BUNDLED_FACTS, Site("resid_post", 40))


def test_parallel_blocks_have_no_resid_mid() -> None:
    facts = facts_of_config("pythia", NEOX)
    assert facts.blocks.parallel
    with pytest.raises(UnknownSite, match=r"resid_mid\.3; pythia runs attention and MLP in parallel"):
        width(facts, Site("resid_mid", 3))
    assert not facts_of_config("neox", NEOX | {"use_parallel_residual": False}).blocks.parallel


@pytest.mark.parametrize(
    ("config", "expected"),
    [
        (LLAMA, SubjectFacts("m", "llama", Blocks(16, 2048, 8192, 2048, 128256))),
        (GPT2, SubjectFacts("m", "gpt2", Blocks(12, 768, 3072, 768, 50257))),
        (GEMMA, SubjectFacts("m", "gemma2", Blocks(16, 2304, 8192, 2048, 128256))),
        (
            {"model_type": "gemma3", "text_config": GEMMA},
            SubjectFacts("m", "gemma2", Blocks(16, 2304, 8192, 2048, 128256)),
        ),
    ],
)
def test_facts_come_from_each_familys_configuration(config: dict[str, Any], expected: SubjectFacts) -> None:
    assert facts_of_config("m", config) == expected


def test_without_named_sites_a_subject_needs_no_sizes_and_has_module_paths_only() -> None:
    facts = facts_of_config("m", {"model_type": "opt"})
    assert facts == SubjectFacts("m", "opt")
    assert width(facts, Site.parse("module:model.decoder.layers.0")) is None
    with pytest.raises(UnknownSite, match=r"architecture='opt' of m; .* module:PATH \(sites have names in .*llama"):
        width(facts, Site("resid_post", 0))


def test_facts_of_a_local_folder(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text(json.dumps(LLAMA))
    facts = subject_facts(str(tmp_path), Settings())
    assert (facts.name, facts.blocks.n_layers) == (str(tmp_path), 16)


def test_a_configuration_without_a_size_names_it(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text(json.dumps({k: v for k, v in LLAMA.items() if k != "vocab_size"}))
    with pytest.raises(UnknownSubject, match="vocab_size"):
        subject_facts(str(tmp_path), Settings())


@pytest.mark.parametrize("text", ["{", "[]", "\x00"])
def test_a_broken_configuration_is_refused(tmp_path: Path, text: str) -> None:
    (tmp_path / "config.json").write_text(text)
    with pytest.raises(UnknownSubject, match=r"config\.json"):
        subject_facts(str(tmp_path), Settings())


@pytest.mark.parametrize("name", ["bundled:other", "gpt2", "/no/such/folder"])
def test_an_unknown_subject_names_what_is_allowed(name: str) -> None:
    with pytest.raises(UnknownSubject, match=BUNDLED) as caught:
        subject_facts(name, Settings())
    assert repr(name) in str(caught.value)


def test_only_listed_subjects_are_allowed() -> None:
    check_allowed(BUNDLED, Settings())
    with pytest.raises(UnknownSubject, match=f"subject='/models/x'; allowed here: {BUNDLED}"):
        check_allowed("/models/x", Settings())
    check_allowed("/models/x", Settings(subjects_allowed=("/models/x",)))


def test_the_schema_needs_no_torch() -> None:
    code = "import sys, schema.subjects, schema.weights; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
