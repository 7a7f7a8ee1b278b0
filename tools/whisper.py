"""Whisper base for studies: its weights under the names of transformers, recorded speech, and what the model makes of it.

The speech: prompts of Debian's package asterisk-core-sounds-en-wav 1.6.1-1 (CC-BY-SA-3.0, 8 kHz, one speaker) of 1.5 to 9.5 seconds.
It has no transcripts: those of the float model stand for them. The encoder hears windows of 10 seconds, not 30, a third of its positions.
"""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from models import CACHE, Tensors, prepare
from safetensors.torch import load_file, save_file
from scipy.io import wavfile
from scipy.signal import resample_poly
from transformers import WhisperConfig, WhisperFeatureExtractor, WhisperForConditionalGeneration

PACKAGE = "asterisk-core-sounds-en-wav"
SPEECH = "usr/share/asterisk/sounds/en_US_f_Allison"
SECONDS, POSITIONS, RATE = 10, 500, 16000
PROMPT, END, LONGEST = (50258, 50259, 50359, 50363), 50257, 64
"""Start of a transcript, English, transcribe, no timestamps; its end; its tokens at most."""

Clip = dict[str, torch.Tensor]
"""What the model is called with: input_features and decoder_input_ids."""


def checkpoint() -> Path:
    """Make a file of the weights as transformers names them, in float16."""
    target = CACHE / "whisper-transformers.f16.safetensors"
    if not target.exists():
        prepare(CACHE, ("whisper",))
        save_file(renamed(load_file(CACHE / "whisper.f16.safetensors")), target, {"format": "pt"})
    return target


def renamed(w: Tensors) -> Tensors:
    """From CTranslate2's names to those of transformers; fused queries, keys and values apart again."""
    found: Tensors = {"model.decoder.embed_tokens.weight": w["decoder/embeddings/weight"]}

    def copy(target: str, source: str, names: dict[str, str]) -> None:
        found.update({f"{target}.{name}": w[f"{source}/{its}"] for name, its in names.items()})

    plain, norm = {"weight": "weight", "bias": "bias"}, {"weight": "gamma", "bias": "beta"}
    for conv in ("conv1", "conv2"):
        copy(f"model.encoder.{conv}", f"encoder/{conv}", plain)
    for side in ("encoder", "decoder"):
        found[f"model.{side}.embed_positions.weight"] = w[f"{side}/position_encodings/encodings"]
        copy(f"model.{side}.layer_norm", f"{side}/layer_norm", norm)
        for i in range(6):
            target, source = f"model.{side}.layers.{i}", f"{side}/layer_{i}"
            kinds = {"self_attn": "self_attention"} | ({"encoder_attn": "attention"} if side == "decoder" else {})
            for kind, its in kinds.items():
                copy(f"{target}.{kind}_layer_norm", f"{source}/{its}/layer_norm", norm)
                fused = ("qkv",) if kind == "self_attn" else ("q", "kv")
                for j, names in enumerate(fused):
                    weight, bias = (w[f"{source}/{its}/linear_{j}/{which}"] for which in ("weight", "bias"))
                    for name, rows, offsets in zip(names, weight.chunk(len(names)), bias.chunk(len(names)), strict=True):
                        found[f"{target}.{kind}.{name}_proj.weight"] = rows.clone()
                        found |= {} if name == "k" else {f"{target}.{kind}.{name}_proj.bias": offsets.clone()}
                copy(f"{target}.{kind}.out_proj", f"{source}/{its}/linear_{len(fused)}", plain)
            copy(f"{target}.final_layer_norm", f"{source}/ffn/layer_norm", norm)
            for j in (0, 1):
                copy(f"{target}.fc{j + 1}", f"{source}/ffn/linear_{j}", plain)
    return found


def load(source: Path) -> Any:
    """The float model, with shorter windows."""
    model, weights = made().eval(), floats(source)
    missing, unexpected = model.load_state_dict(weights, strict=False)
    assert missing == ["proj_out.weight"] and not unexpected, (missing, unexpected)
    model.tie_weights()
    return model


def made() -> Any:
    """A model with shorter windows, whose weights are still to come."""
    config = WhisperConfig(
        vocab_size=51865, d_model=512, encoder_layers=6, decoder_layers=6, encoder_attention_heads=8, decoder_attention_heads=8,
        encoder_ffn_dim=2048, decoder_ffn_dim=2048, max_source_positions=POSITIONS, max_target_positions=448, use_cache=False,
    )  # fmt: skip
    return WhisperForConditionalGeneration(config)


def floats(source: Path) -> Tensors:
    """Its weights."""
    weights = {name: its.float() for name, its in load_file(source).items()}
    weights["model.encoder.embed_positions.weight"] = weights["model.encoder.embed_positions.weight"][:POSITIONS]
    return weights


def clips(model: Any, count: int) -> list[Clip]:
    """That many recordings, evenly taken from all by name, with the float model's transcripts."""
    folder, known = _speech(), CACHE / "whisper-transcripts.json"
    files = [file for file in sorted(folder.rglob("*.wav")) if 1.5 <= _seconds(file) <= SECONDS - 0.5]
    files = [files[i * len(files) // count] for i in range(count)]
    texts = json.loads(known.read_text()) if known.exists() else {}
    extractor, found = WhisperFeatureExtractor(feature_size=80, chunk_length=SECONDS), []
    for file in files:
        rate, wave = wavfile.read(file)
        sound = resample_poly(wave / 32768, RATE, rate).astype(np.float32)
        features = extractor(sound, sampling_rate=RATE, return_tensors="pt").input_features
        name = str(file.relative_to(folder))
        if name not in texts:
            texts[name] = transcribe(model, features)
            known.write_text(json.dumps(texts))
        found.append({"input_features": features, "decoder_input_ids": torch.tensor([texts[name]])})
    return found


def transcribe(model: Any, features: torch.Tensor) -> list[int]:
    """The likeliest token each time, prompt and end included."""
    with torch.inference_mode():
        heard, found, new, past = model.model.encoder(features), list(PROMPT), list(PROMPT), None
        while found[-1] != END and len(found) < LONGEST:
            its = model(encoder_outputs=heard, decoder_input_ids=torch.tensor([new]), past_key_values=past, use_cache=True)
            past, new = its.past_key_values, [int(its.logits[0, -1].argmax())]
            found += new
    return found


def answers(model: Any, clips: Sequence[Clip]) -> Iterator[tuple[Any, Any]]:
    """Logits and right tokens of every position behind the prompt."""
    skipped = len(PROMPT) - 1
    for clip in clips:
        with torch.inference_mode():
            logits = model(**clip).logits[0, skipped:-1]
        yield logits.numpy(), clip["decoder_input_ids"][0, skipped + 1 :].numpy()


def _speech() -> Path:
    if not (CACHE / SPEECH).is_dir():
        subprocess.run(["apt-get", "download", PACKAGE], cwd=CACHE, check=True, capture_output=True)
        subprocess.run(["dpkg-deb", "-x", next(CACHE.glob(f"{PACKAGE}_*.deb")), CACHE], check=True)
    return CACHE / SPEECH


def _seconds(file: Path) -> float:
    rate, wave = wavfile.read(file)
    return len(wave) / rate
