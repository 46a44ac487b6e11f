"""Pretrain the embedded base model.

    python notebooks/experiments/tiny_base.py --to data/tiny-base

A Llama of about 1.4 million parameters reads pages of `corpus.documents` for 2,600 steps in plain
PyTorch: Muon for the matrices and AdamW for the rest, warm-up, then linear decay over the second
half, pages packed one after the other without masking between them. The tokenizer is a BPE with
single digits, trained on the same pages. Left out is what large runs need: sharding, resuming,
data loaders, bf16.
"""

import argparse
import itertools
import json
import math
import platform
import time
from pathlib import Path

from postlab.tinyworld import corpus

VOCABULARY, CONTEXT = 1280, 256
SPLIT = r"[0-9]| ?[A-Za-z]+|[^\sA-Za-z0-9]+ ?|\s"  # single digits; ", " and ". " are one piece


def build_tokenizer(seed: int = 0, *, pages: int = 6000):
    """Train the tokenizer: BPE, ChatML turns, and a pad token that is not the end of turn."""
    from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers, trainers
    from transformers import PreTrainedTokenizerFast

    bpe = Tokenizer(models.BPE())
    bpe.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(SPLIT), "isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    bpe.decoder = decoders.ByteLevel()
    special = [corpus.PAD, corpus.DOCUMENT_END, corpus.TURN_START, corpus.TURN_END]
    trainer = trainers.BpeTrainer(
        vocab_size=VOCABULARY,
        special_tokens=special,
        show_progress=False,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
    )
    bpe.train_from_iterator(itertools.islice(corpus.documents(seed), pages), trainer)
    return PreTrainedTokenizerFast(
        tokenizer_object=bpe,
        pad_token=corpus.PAD,
        eos_token=corpus.TURN_END,
        additional_special_tokens=[corpus.TURN_START, corpus.DOCUMENT_END],
        chat_template=corpus.CHAT_TEMPLATE,
        model_max_length=2 * CONTEXT,
        clean_up_tokenization_spaces=False,
    )


def build_model(tokenizer, *, width: int = 160, layers: int = 4):
    """A random Llama of the shipped shape: tied embeddings, heads of 32."""
    from transformers import LlamaConfig, LlamaForCausalLM

    config = LlamaConfig(
        vocab_size=len(tokenizer),
        hidden_size=width,
        num_hidden_layers=layers,
        num_attention_heads=width // 32,
        num_key_value_heads=width // 32,
        intermediate_size=round(width * 2.6 / 32) * 32,
        max_position_embeddings=2 * CONTEXT,
        tie_word_embeddings=True,
        bos_token_id=None,
        dtype="float32",
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
    )
    return LlamaForCausalLM(config)


def orthogonal(gradient, *, rounds: int = 5):
    """The nearest matrix with equal singular values, by Newton-Schulz: (rows, columns) in and out.

    torch.optim.Muon does this in bf16, which a CPU without bf16 does ten times slower than fp32.
    Source: Jordan et al. 2024, Muon.
    """
    x = gradient / (gradient.norm() + 1e-7)
    wide = x.shape[0] <= x.shape[1]
    x = x if wide else x.T
    for _ in range(rounds):
        gram = x @ x.T
        x = 3.4445 * x + (-4.7750 * gram + 2.0315 * gram @ gram) @ x
    return x if wide else x.T


def muon_step(parameters, momenta, *, lr: float, momentum: float = 0.95, decay: float = 0.05):
    """One Muon update in place, scaled to the size of an Adam update (0.2 a weight)."""
    for parameter, memory in zip(parameters, momenta, strict=True):
        memory.lerp_(parameter.grad, 1 - momentum)
        update = orthogonal(parameter.grad.lerp(memory, momentum))
        parameter.mul_(1 - lr * decay)
        parameter.add_(update, alpha=-0.2 * lr * max(parameter.shape) ** 0.5)


def batches(tokenizer, seed: int, batch: int):
    """Yield (batch, CONTEXT + 1) token ids, pages packed one after the other."""
    import torch

    buffer: list[int] = []
    need = batch * (CONTEXT + 1)
    pages = corpus.documents(seed)
    while True:
        while len(buffer) < need:
            for ids in tokenizer(list(itertools.islice(pages, 64)))["input_ids"]:
                buffer += ids
        yield torch.tensor(buffer[:need]).view(batch, CONTEXT + 1)
        del buffer[:need]


def pretrain(*, to: Path, steps: int, seed: int, batch: int, lr: float) -> dict:
    """Train, save as safetensors with a PROVENANCE.json beside it, and return the provenance."""
    import torch

    torch.manual_seed(seed)
    tokenizer = build_tokenizer(seed)
    model = build_model(tokenizer)
    hidden = [p for n, p in model.named_parameters() if p.ndim == 2 and "embed" not in n]
    rest = [p for n, p in model.named_parameters() if p.ndim != 2 or "embed" in n]
    momenta = [torch.zeros_like(p) for p in hidden]
    adam = torch.optim.AdamW(rest, lr=lr, betas=(0.9, 0.95), weight_decay=0.0)
    began, losses, log = time.time(), [], []
    for step, ids in zip(range(steps), batches(tokenizer, seed + 1, batch), strict=False):
        share = min(1.0, (step + 1) / 100) * min(1.0, (steps - step) / (0.5 * steps))
        adam.param_groups[0]["lr"] = lr * share
        logits = model(input_ids=ids[:, :-1]).logits
        loss = torch.nn.functional.cross_entropy(logits.flatten(0, 1), ids[:, 1:].flatten())
        if not math.isfinite(loss.item()):
            raise FloatingPointError(f"loss is {loss.item()} at step {step}: lower --lr")
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        with torch.no_grad():
            muon_step(hidden, momenta, lr=lr * share)
        adam.step()
        model.zero_grad(set_to_none=True)
        losses.append(loss.item())
        if step % 50 == 49:
            log.append({"step": step + 1, "loss": sum(losses[-50:]) / 50})
            seconds = time.time() - began
            print(
                f"step {step + 1}/{steps}  loss {log[-1]['loss']:.4f}  {seconds:.0f} s", flush=True
            )
        if step % 500 == 499:  # long run: what was reached so far can be used
            model.save_pretrained(to, safe_serialization=True)
            tokenizer.save_pretrained(to)
    model.save_pretrained(to, safe_serialization=True)
    tokenizer.save_pretrained(to)
    provenance = {
        "command": "python notebooks/experiments/tiny_base.py"
        f" --steps {steps} --seed {seed} --batch {batch} --lr {lr}",
        "seed": seed,
        "steps": steps,
        "tokens": steps * batch * CONTEXT,
        "parameters": sum(p.numel() for p in model.parameters()),
        "date": time.strftime("%Y-%m-%d"),
        "seconds": round(time.time() - began),
        "device": f"CPU, {torch.get_num_threads()} threads, {platform.machine()}",
        "torch": torch.__version__,
        "final_loss": log[-1]["loss"],
        "log": log,
    }
    (to / "PROVENANCE.json").write_text(json.dumps(provenance, indent=1) + "\n")
    return provenance


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--to", type=Path, default=Path("data/tiny-base"))
    parser.add_argument("--steps", type=int, default=2600)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--batch", type=int, default=16)
    parser.add_argument("--lr", type=float, default=6e-3)
    arguments = parser.parse_args()
    pretrain(**vars(arguments))


if __name__ == "__main__":
    main()
