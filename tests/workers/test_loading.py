"""Loading subjects: folders, the bundled one, and what is refused."""

from pathlib import Path

import pytest
import torch

from schema.errors import UnknownSubject
from schema.records import DictionarySpec, Encoder
from schema.settings import Settings
from schema.subjects import BUNDLED, BUNDLED_FACTS, SITE_KINDS, Site
from tests.tiny import build_subject, make_subject, tiny_corpus
from workers import devices
from workers.devices import choose_device, choose_dtype
from workers.dictionary import load_dictionary
from workers.loading import load_subject
from workers.subject import Edit

CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the folder of a tiny subject."""
    torch.set_num_threads(1)
    return make_subject(tmp_path_factory.mktemp("subject") / "tiny")


def settings(**values: str) -> Settings:
    """Return settings for float32 on the CPU unless told otherwise."""
    return Settings.model_validate({"dtype": "float32", "device": "cpu"} | values)


def test_a_folder_loads_once_per_process_as_what_was_saved(folder: Path) -> None:
    subject = load_subject(str(folder), None, settings())
    assert load_subject(str(folder), None, settings()) is subject
    built = build_subject()
    text = tiny_corpus(1)[0]
    assert subject.tokenize(text) == built.tokenize(text)
    batch = subject.batch([[subject.sink_id, *subject.tokenize(text)]])
    assert torch.equal(subject.hidden(batch), built.hidden(batch))
    assert subject.fingerprint["dtype"] == "float32"
    assert subject.fingerprint["path"] == "resumed"


def test_the_revision_of_a_folder_follows_its_files(folder: Path, tmp_path: Path) -> None:
    revision = load_subject(str(folder), None, settings()).revision
    assert load_subject(str(folder), revision, settings()).revision == revision
    with pytest.raises(UnknownSubject, match=rf"revision='other'; .* is {revision}"):
        load_subject(str(folder), "other", settings())
    changed = make_subject(tmp_path / "tiny", seed=1)
    assert load_subject(str(changed), None, settings()).revision != revision


def test_weights_that_are_no_safetensors_are_refused(folder: Path, tmp_path: Path) -> None:
    for file in folder.iterdir():
        if file.suffix == ".json":
            (tmp_path / file.name).write_bytes(file.read_bytes())
    torch.save({}, tmp_path / "pytorch_model.bin")
    with pytest.raises(UnknownSubject, match="must be a causal language model in safetensors"):
        load_subject(str(tmp_path), None, settings())


@pytest.mark.parametrize("name", ["bundled:other", "no-such-org/no-such-model", "/no/such/folder"])
def test_a_subject_that_is_nowhere_is_refused(name: str) -> None:
    with pytest.raises(UnknownSubject, match=f"subject='{name}'"):
        load_subject(name, None, settings())


def test_automatic_dtype_is_bfloat16_only_where_it_is_native(monkeypatch: pytest.MonkeyPatch) -> None:
    assert choose_dtype("auto", torch.device("cuda:0")) == torch.bfloat16
    for native, expected in ((True, torch.bfloat16), (False, torch.float32)):
        monkeypatch.setattr(devices, "cpu_has_bfloat16", lambda native=native: native)
        assert choose_dtype("auto", CPU) == expected
    assert choose_dtype("float32", torch.device("cuda:0")) == torch.float32
    assert choose_dtype("bfloat16", CPU) == torch.bfloat16
    assert choose_device("cpu") == CPU


def test_text_of_any_kind_comes_back_from_its_pieces(folder: Path) -> None:
    subject = load_subject(str(folder), None, settings())
    for text in ("the river.\n\tdef f(x):", "naïve café — 日本語 🙂🙃", " ", "a  b", "</s> the"):
        ids = subject.tokenize(text)
        pieces = subject.pieces(ids)
        assert len(pieces) == len(ids)
        assert "".join(pieces) == text
    assert subject.pieces([]) == ()
    assert subject.token_strings([subject.tokenize(" river")[0], 10**6]) == (" river", "<1000000>")


def test_the_bundled_subject_is_what_its_facts_say_and_works(cache_dir: Path) -> None:
    subject = load_subject(BUNDLED, None, settings(cache_dir=str(cache_dir), dtype="auto"))
    assert (len(subject.anatomy.blocks), subject.d_model, subject.n_vocab) == (30, 576, 49152)
    assert subject.facts == BUNDLED_FACTS
    assert len(subject.special_ids) == 17
    assert subject.resumable
    assert len(list((cache_dir / "subjects").glob(f"*-{subject.revision}/model.safetensors"))) == 1
    ids = subject.tokenize("The capital of France is")
    batch = subject.batch([[subject.sink_id, *ids]])
    best = int(subject.unembed(subject.hidden(batch))[0, -1].argmax())
    assert subject.token_strings([best]) == (" Paris",)
    for kind in SITE_KINDS:
        site = Site(kind, 14)
        assert subject.read(batch, site).shape == (1, len(ids) + 1, subject.width(site))


def test_on_the_bundled_subject_a_late_direction_moves_the_logits_as_predicted(cache_dir: Path) -> None:
    """Claims are tested by intervening: the difference of two tokens' unembedding rows tells one from the other."""
    subject = load_subject(BUNDLED, None, settings(cache_dir=str(cache_dir), dtype="auto"))
    batch = subject.batch([[subject.sink_id, *subject.tokenize("The capital of France is")]] * 3)
    rome, paris = (subject.tokenize(word)[0] for word in (" Rome", " Paris"))
    direction = (subject.unembedding[rome] - subject.unembedding[paris]).float() * subject.anatomy.gain(
        subject.anatomy.final_norm
    )
    unit = (direction / direction.norm()).expand(3, -1)
    norm = float(subject.residual_in(batch, 29)[0, 1:].float().norm(dim=-1).mean())
    edit = Edit.add(Site("resid_post", 28), unit, torch.tensor([-0.5, 0.0, 0.5]) * norm)
    logits = subject.unembed(subject.hidden(batch, edit))[:, -1]
    less, clean, more = (logits[:, rome] - logits[:, paris]).tolist()
    assert less < clean < 0 < more
    assert torch.equal(logits[1], subject.unembed(subject.hidden(batch))[1, -1])


def test_on_the_bundled_subject_more_of_a_neuron_is_more_kl(cache_dir: Path) -> None:
    """Setting a neuron to its own value changes nothing; the further from it, the larger the KL, with both signs."""
    subject = load_subject(BUNDLED, None, settings(cache_dir=str(cache_dir)))
    encoder = Encoder(kind="neurons")
    spec = DictionarySpec(name="n", subject=BUNDLED, read_site="mlp_hidden.15", encoder=encoder, n_features=1536)
    neurons = load_dictionary(spec, subject, None)
    batch = subject.batch([[subject.sink_id, *subject.tokenize("The capital of France is")]] * 7)
    own = neurons.encode(subject.read(batch, neurons.read_site))[0, -1]
    neuron = int((own.abs() * neurons.directions(torch.arange(1536)).norm(dim=1)).argmax())
    values = own[neuron] + own[neuron].abs() * torch.tensor([-4.0, -2.0, -1.0, 0.0, 1.0, 2.0, 4.0])
    last = torch.zeros(batch.ids.shape, dtype=torch.bool)
    last[:, -1] = True
    edit = neurons.set(torch.full((7,), neuron), values, last)
    logs = subject.unembed(subject.hidden(batch, edit))[:, -1].log_softmax(-1)
    kl = (logs[3].exp() * (logs[3] - logs)).sum(-1)
    assert torch.allclose(logs[3], subject.unembed(subject.hidden(batch))[3, -1].log_softmax(-1), atol=1e-4)
    assert kl[0] > kl[1] > kl[2] > kl[3]
    assert kl[6] > kl[5] > kl[4] > kl[3]
    assert float(kl.max()) > 1e-3
