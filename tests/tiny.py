"""A tiny random subject, a dictionary planted in it, and a corpus that uses its words.

Every planted feature fires exactly on its two trigger words and promotes exactly its three promoted words. That is
arranged, not trained: words have known embeddings, an encoder row answers 1 on its triggers and less than its bias
everywhere else, and a decoder row is what raises the promoted words over all others. Blocks are kept weak, so that what
is planted survives them. tests/workers/test_dictionary.py proves both sets.
"""

import json
import random
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import torch
from safetensors.torch import load_file, save_file
from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers
from torch import Tensor

from schema.records import DictionarySpec, Encoder
from schema.subjects import facts_of_config
from workers.subject import Subject

D_MODEL, N_LAYERS, N_HEADS, D_MLP = 96, 4, 4, 128
PLANTED_LAYER = 1
BOS, EOS = "<s>", "</s>"

# Two triggers and three promoted words a feature; no word is in two features.
_PLANTED = """
river stream: apple pear plum
copper silver: violin trumpet drum
doctor nurse: castle tower fortress
winter snow: pepper salt sugar
engine wheel: poem verse rhyme
lawyer judge: whale shark dolphin
bread butter: planet comet moon
soldier army: carpet curtain pillow
teacher pupil: hammer saw nail
forest tree: dollar euro coin
wolf fox: window door roof
prince queen: tennis soccer hockey
paper pencil: thunder rain wind
sailor ship: shirt trousers jacket
farmer field: prayer temple priest
clock minute: onion garlic carrot
mountain valley: novel chapter author
camera photo: knee elbow ankle
pilot airplane: circle square triangle
baker oven: desert sand camel
actor stage: lemon orange lime
garden flower: voter senate election
bridge road: spider beetle ant
doll toy: oxygen carbon iron
glass bottle: sister brother uncle
train station: honey jam syrup
painter canvas: bone skull rib
horse saddle: email network server
king crown: grape wine cellar
banker loan: frog toad newt
tailor needle: island beach harbor
hunter rifle: piano flute harp
miner coal: yellow purple green
barber razor: equation theorem proof
singer song: granite marble slate
cook soup: angry jealous proud
bee hive: bronze statue sculptor
fever cough: ladder rope anchor
chess pawn: tiger lion leopard
volcano lava: sleeve collar button
cotton wool: fraction decimal integer
police thief: mushroom moss fern
candle lamp: goose duck swan
cannon powder: pillar arch dome
"""
_FILLERS = "the a of and to in on at was near with every old young left right saw found under before after big small it"
_TEMPLATES = (
    "The {} was near the {} and the {}.",
    "A {} saw the {} under a {}.",
    "Every {} found a big {} after the {}.",
    "It was old, the {}, and the {} left with a {}.",
    "Before the {} a small {} was on the {}.",
    "To the right of the {}, in a {}, was the young {}.",
)


@dataclass(frozen=True)
class Planted:
    """What one feature fires on, and what its direction promotes: words, without the space before them."""

    triggers: tuple[str, ...]
    promoted: tuple[str, ...]


class PlantedDictionary(NamedTuple):
    """A dictionary whose every feature is known; `planted[i]` is the truth about feature i."""

    spec: DictionarySpec
    weights: Path
    planted: tuple[Planted, ...]


def planted_features() -> tuple[Planted, ...]:
    """Return the truth: 44 features."""
    lines = [line.split(":") for line in _PLANTED.strip().splitlines()]
    return tuple(Planted(tuple(left.split()), tuple(right.split())) for left, right in lines)


def words() -> tuple[str, ...]:
    """Return the words that are one token each, with a space before them."""
    planted = [word for feature in planted_features() for word in (*feature.triggers, *feature.promoted)]
    return (*planted, *_FILLERS.split())


def tiny_corpus(n_documents: int = 200, seed: int = 0) -> list[str]:
    """Return documents of eight sentences; each trigger is used about equally often, promoted words hardly ever."""
    rng = random.Random(seed)
    triggers = [word for feature in planted_features() for word in feature.triggers]
    deck: list[str] = []
    documents = []
    for _ in range(n_documents):
        sentences = []
        for _ in range(8):
            if len(deck) < 3:
                deck += rng.sample(triggers, len(triggers))
            sentences.append(rng.choice(_TEMPLATES).format(*(deck.pop() for _ in range(3))))
        documents.append(" ".join(sentences))
    return documents


def make_tokenizer() -> Any:
    """Return a byte-level tokenizer: every text comes back whole, and every word is one token."""
    from transformers import PreTrainedTokenizerFast

    names = [BOS, EOS, *sorted(pre_tokenizers.ByteLevel.alphabet())]
    names += [f"Ġ{word}" for word in words()] + sorted({t.split()[0] for t in _TEMPLATES})
    backend = Tokenizer(models.BPE({name: i for i, name in enumerate(dict.fromkeys(names))}, [], ignore_merges=True))
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    backend.decoder = decoders.ByteLevel()
    backend.add_special_tokens([AddedToken(BOS, special=True), AddedToken(EOS, special=True)])
    return PreTrainedTokenizerFast(tokenizer_object=backend, bos_token=BOS, eos_token=EOS)


def make_subject(folder: Path, arch: str = "llama", seed: int = 0) -> Path:
    """Save a tiny random subject and its tokenizer to a folder, and return the folder.

    arch: llama, gpt2, gpt_neox, or without a layout opt, bloom, phi, mixtral, olmo2. (transformers rebuilds the
          tokenizer of some others, Qwen's among them, by its own rules, and splits the words: for those use
          `build_subject`.)
    """
    from transformers.utils import logging

    logging.disable_progress_bar()
    tokenizer = make_tokenizer()
    folder.mkdir(parents=True, exist_ok=True)
    make_model(arch, tokenizer, seed).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


def build_subject(arch: str = "llama", seed: int = 0, block_scale: float = 0.05, **config: Any) -> Subject:
    """Return the same tiny subject without a folder, in float32; `config` overrides its configuration."""
    tokenizer = make_tokenizer()
    model = make_model(arch, tokenizer, seed, block_scale, **config).eval().requires_grad_(False)
    return Subject(model, tokenizer, facts_of_config(f"tiny-{arch}", model.config.to_dict()), revision=f"seed-{seed}")


def make_model(arch: str, tokenizer: Any, seed: int = 0, block_scale: float = 0.05, **config: Any) -> Any:
    """Return a random model; block_scale is the standard deviation of the weights in its blocks."""
    from transformers import AutoModelForCausalLM

    with torch.random.fork_rng():
        torch.manual_seed(seed)
        model = AutoModelForCausalLM.from_config(_config(arch, len(tokenizer), **config))
    _set_weights(model, tokenizer, torch.Generator().manual_seed(seed), block_scale)
    return model


def planted_dictionary(
    folder: Path, subject: Path, subject_name: str | None = None, site: str = f"resid_post.{PLANTED_LAYER}"
) -> PlantedDictionary:
    """Save the planted dictionary of a subject made by `make_subject`, as canonical weights in a folder.

    It reads and writes a site of the residual; its encoder is a relu with a bias.
    """
    from transformers import AutoModelForCausalLM, AutoTokenizer

    model: Any = AutoModelForCausalLM.from_pretrained(subject)
    tokenizer = AutoTokenizer.from_pretrained(subject)
    w_enc, b_enc = _encoder(model.get_input_embeddings().weight.detach(), tokenizer)
    w_dec = _decoder(model.get_output_embeddings().weight.detach(), tokenizer)
    folder.mkdir(parents=True, exist_ok=True)
    weights = folder / "weights.safetensors"
    save_file({"w_enc": w_enc.contiguous(), "b_enc": b_enc, "w_dec": w_dec.contiguous()}, weights)
    spec = DictionarySpec(
        name="planted",
        subject=subject_name or str(subject),
        read_site=site,
        encoder=Encoder(kind="relu"),
        n_features=len(w_dec),
    )
    (folder / "spec.json").write_text(json.dumps(spec.model_dump(mode="json")), "utf-8")
    return PlantedDictionary(spec, weights, planted_features())


def planted_directions(folder: Path, subject: Path, site: str) -> PlantedDictionary:
    """Save the decoder rows of the planted dictionary alone, as plain directions: they promote what is planted."""
    whole = planted_dictionary(folder, subject, site=site)
    save_file({"w_dec": load_file(whole.weights)["w_dec"]}, whole.weights)
    return whole._replace(spec=whole.spec.model_copy(update={"encoder": Encoder(kind="linear")}))


def word_ids(tokenizer: Any, group: tuple[str, ...]) -> list[int]:
    """Return the token of each word, with the space before it."""
    return [int(tokenizer.convert_tokens_to_ids(f"Ġ{word}")) for word in group]


def _encoder(embedding: Tensor, tokenizer: Any) -> tuple[Tensor, Tensor]:
    """Return rows (F, d) and biases (F,) that answer about 0.3 on a feature's triggers and nothing elsewhere."""
    targets = torch.zeros(len(embedding), len(planted_features()))
    for i, feature in enumerate(planted_features()):
        targets[word_ids(tokenizer, feature.triggers), i] = 1.0
    rows = _ridge(embedding, targets)
    return rows, torch.full((len(rows),), -0.65)


def _decoder(unembedding: Tensor, tokenizer: Any) -> Tensor:
    """Return unit rows (F, d) that raise a feature's promoted words over every other token, and no byte at all."""
    targets = torch.zeros(len(unembedding), len(planted_features()))
    for i, feature in enumerate(planted_features()):
        targets[word_ids(tokenizer, feature.promoted), i] = 1.0
    rows = _ridge(unembedding, targets)
    rows = rows / rows.norm(dim=1, keepdim=True)
    rows[:, 0] = 0.5  # about the residual's own share, so that no norm on the way frees the bytes
    return rows / rows.norm(dim=1, keepdim=True)


def _ridge(tokens: Tensor, targets: Tensor) -> Tensor:
    """Return directions whose products with the tokens' vectors come closest to the targets, 1 on average there."""
    gram = tokens.T @ tokens
    rows = torch.linalg.solve(gram + 0.05 * gram.diagonal().mean() * torch.eye(len(gram)), tokens.T @ targets).T
    answers = (rows @ tokens.T * targets.T).sum(1, keepdim=True) / targets.T.sum(1, keepdim=True)
    return rows / answers


def _config(arch: str, n_vocab: int, **config: Any) -> Any:
    from transformers import AutoConfig

    sizes: dict[str, Any] = {
        "vocab_size": n_vocab,
        "hidden_size": D_MODEL,
        "num_hidden_layers": N_LAYERS,
        "num_attention_heads": N_HEADS,
        "intermediate_size": D_MLP,
        "max_position_embeddings": 512,
    }
    if arch == "gpt2":
        sizes = {"vocab_size": n_vocab, "n_embd": D_MODEL, "n_layer": N_LAYERS, "n_head": N_HEADS, "n_inner": D_MLP}
        sizes |= {"n_positions": 512}
    elif arch != "gpt_neox":
        sizes |= {"num_key_value_heads": N_HEADS // 2, "head_dim": D_MODEL // N_HEADS}
    return AutoConfig.for_model(
        arch, **sizes, tie_word_embeddings=False, bos_token_id=0, eos_token_id=1, pad_token_id=1, **config
    )


@torch.no_grad()
def _set_weights(model: Any, tokenizer: Any, generator: torch.Generator, block_scale: float) -> None:
    """Give tokens vectors of known size and keep blocks weak.

    Coordinate 0 is the same for all tokens that come in, and against all that may go out but words: so only words are
    said. Bytes hardly move the rest of the residual.
    """
    is_word = _is_word(tokenizer)
    scale = torch.where(is_word, 1.0, 0.3)[:, None]
    vectors = torch.randn(2, len(is_word), D_MODEL, generator=generator)
    vectors[..., 0] = 0.0
    vectors = vectors / vectors.norm(dim=-1, keepdim=True) * scale
    vectors[0, :, 0] = 0.5
    vectors[1, :, 0] = torch.where(is_word, 0.0, -1.0)
    for parameter in model.parameters():
        if parameter.ndim >= 2:
            parameter.normal_(0.0, block_scale, generator=generator)
        elif parameter.ndim == 1:
            parameter.add_(0.02 * torch.randn(parameter.shape, generator=generator))
    model.get_input_embeddings().weight.copy_(vectors[0] * 8.0)
    model.get_output_embeddings().weight.copy_(vectors[1] * 1.5)


def _is_word(tokenizer: Any) -> Tensor:
    names = tokenizer.convert_ids_to_tokens(list(range(len(tokenizer))))
    return torch.tensor([name.startswith("Ġ") and len(name) > 1 for name in names])
