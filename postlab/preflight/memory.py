"""What a training step holds in memory, byte by byte, from the model's shape alone.

Read from the sources of TRL 1.9 to 1.14, transformers 5.17, PEFT 0.21 and bitsandbytes 0.50, for
one device, attention through SDPA, dropout 0, LoRA on all seven projections. In the formulas: H
hidden, A width of all query heads, K of all key heads, I intermediate, V vocabulary, L layers; r
the rank; n tokens = batch * length; s bytes of the residual stream and of weights that are not
quantised, c bytes that matrix products work in, t bytes of a trained parameter.

Precisions: on a GPU c = 2; s = 4 for 32-bit weights, else 2. On a CPU c = s, which is 4 but for
16-bit weights: its 4-bit models work in float32. t = s for full fine-tuning; adapters are float32,
but bfloat16 on a GPU's 4-bit base, since TRL rounds them (Unsloth does not: t = 4 there).

Left out: a number or two for each token and head, CUDA graphs, offloading, several devices.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

from postlab.preflight.architectures import Architecture

NF4_BLOCK = 64  # weights that share a constant, as in QLoRA
NESTED_BLOCK = 256  # constants that share a constant of their own, with double quantisation
CHUNK = 256  # rows of logits that TRL's SFT loss makes at a time
PAIRED = ("dpo", "reward")  # an example is two sequences
GIB = 2**30
WORKSPACE = 32 * 2**20  # cuBLAS holds 8 MiB for good, 32 MiB on Hopper


@dataclass(frozen=True)
class Plan:
    """One training step, as far as memory and time depend on it; `estimate` says what each is."""

    stage: str
    shape: Architecture
    batch: int
    length: int
    bits: int
    lora_rank: int
    new_tokens: int
    accumulation: int
    checkpointing: bool
    reference: bool
    adam_bits: int
    trl_minor: int
    on_cpu: bool

    @property
    def tokens(self) -> int:
        return self.batch * self.length

    @property
    def full(self) -> bool:
        return self.lora_rank == 0

    @property
    def stream(self) -> int:
        """s in the formulas."""
        return 2 if self.bits == 16 or (self.bits == 4 and not self.on_cpu) else 4

    @property
    def compute(self) -> int:
        """c in the formulas."""
        return self.stream if self.on_cpu else 2

    @property
    def element(self) -> int:
        """t in the formulas."""
        if self.full:
            return self.stream
        return 2 if self.bits == 4 and not self.on_cpu else 4

    @property
    def parameters(self) -> int:
        """A reward model has a head of one row, which is not counted, instead of V."""
        without_head = self.stage == "reward" and not self.shape.tied
        return self.shape.parameters - (self.shape.head_parameters if without_head else 0)

    @property
    def trained(self) -> int:
        return self.parameters if self.full else self.shape.lora_parameters(self.lora_rank)

    @property
    def positions(self) -> int:
        """Tokens whose logits exist at a time.

        SFT: a chunk of 256. DPO: every token. GRPO: the completion's, and one more which TRL drops.
        """
        if self.stage == "sft":
            return min(CHUNK, self.tokens)
        if self.stage == "grpo":
            return self.batch * (self.new_tokens + 1)
        return self.tokens if self.stage == "dpo" else 0


@dataclass(frozen=True)
class Memory:
    """Bytes of a step's parts; `Memory(plan).total` is the peak of what is allocated."""

    plan: Plan

    @cached_property
    def weights(self) -> float:
        """4 bits: linear / 2 for the codes, linear / 64 for one-byte constants, and 4 bytes for
        each 256 of those; embeddings, head and norms stay at s. Else parameters * bits / 8.

        That is 4.127 bits a quantised weight; without double quantisation it would be 4.5.
        """
        plan, linear = self.plan, self.plan.shape.linear_parameters
        if plan.bits != 4:
            return plan.parameters * plan.bits / 8
        constants = linear / NF4_BLOCK + 4 * linear / (NF4_BLOCK * NESTED_BLOCK)
        return linear / 2 + constants + (plan.parameters - linear) * plan.stream

    @property
    def adapters(self) -> float:
        """LoRA's A and B: t * L * r * sum of (in + out) over the seven projections."""
        return 0.0 if self.plan.full else self.plan.trained * self.plan.element

    @property
    def gradients(self) -> float:
        """t a trained parameter, there all the time: they outlive a step's first micro-batch."""
        return self.plan.trained * self.plan.element

    @property
    def optimizer(self) -> float:
        """AdamW: two moments in the parameter's own precision, 2 * t each; 8-bit AdamW: two bytes
        and two 4-byte constants for each 256 parameters."""
        plan = self.plan
        return plan.trained * (2 * plan.element if plan.adam_bits == 32 else 2 + 8 / 256)

    @property
    def reference(self) -> float:
        """A second copy of the weights for full fine-tuning; the base below an adapter is free."""
        return self.weights if self.plan.reference and self.plan.full else 0.0

    @cached_property
    def layer(self) -> float:
        """What one layer keeps for its backward pass, n times:

            norms * 4H + 2cH     norms keep a float32 input; what they put out is a linear input
            c (2A + 2K)          query, key, value as attention takes them, and its output
            4cI                  gate, its SiLU, up, and their product
            7rc                  the adapters' middles (LoRA)
            norms * sH           norms before their scale (full: the scale is trained)
            4 (A + K) [+ c(A + K) full]   Qwen3's norms of query and key
            c (3H + A)           where float32 adapters or weights meet a half-precision c, each
                                 linear map casts its input for itself (A: LoRA only)
        and, once, float32 weights cast to c by autocast: c a parameter of the layer.
        """
        plan, shape = self.plan, self.plan.shape
        c, h, a, k = plan.compute, shape.hidden, shape.query_dim, shape.kv_dim
        each = shape.norms * 4 * h + 2 * c * h + c * (2 * a + 2 * k) + 4 * c * shape.intermediate
        each += shape.norms * plan.stream * h if plan.full else 7 * plan.lora_rank * c
        if shape.qk_norm:
            each += (4 + (c if plan.full else 0)) * (a + k)
        if plan.element == 4 and c == 2:
            each += c * (3 * h + (0 if plan.full else a))
        cast = c * shape.linear_parameters / shape.layers if plan.stream > c else 0
        return plan.tokens * each + cast

    @cached_property
    def saved(self) -> float:
        """With checkpointing L * s * H * n, the layers' inputs; without, L times `layer`. Then the
        last norm: (4 + c) * H * n."""
        plan, h = self.plan, self.plan.shape.hidden
        a_layer = plan.tokens * plan.stream * h if plan.checkpointing else self.layer
        return plan.shape.layers * a_layer + plan.tokens * h * (4 + plan.compute)

    @cached_property
    def in_layer(self) -> float:
        """On top of `saved` while a layer is worked on backwards: the layer itself where it was
        checkpointed; n * c * (2I + H) of gradients passing through its MLP; a matrix of H * I, the
        dequantised weight (c, 4 bits) or the gradient on its way (s, full fine-tuning); the
        attention mask, as truth values and as numbers: (1 + c) * batch * length^2."""
        plan, shape = self.plan, self.plan.shape
        passing = plan.tokens * plan.compute * (2 * shape.intermediate + shape.hidden)
        matrix = plan.compute if plan.bits == 4 else plan.stream if plan.full else 0
        mask = (1 + plan.compute) * plan.batch * plan.length**2
        again = self.layer if plan.checkpointing else 0
        return again + passing + matrix * shape.hidden * shape.intermediate + mask

    @property
    def bytes_a_logit(self) -> int:
        """Copies of the logits that exist at once in the loss or its backward pass, in bytes.

        The model's half-precision logits come out of accelerate as float32 (4); then
        - SFT: softmax, exp and their product for the entropy, 4 each: 16, in chunks.
        - GRPO and DPO until TRL 1.13: the float32 logits that logsumexp kept, a gradient for each
          row and those gradients stacked: 12. GRPO in TRL 1.9 divides a view by the temperature in
          place, and the way back copies what that view belongs to: 16.
        - from 1.14 on a GPU, one Triton kernel: the float32 logits and their gradient, 8. A CPU
          keeps to the older way. DPO's reference adds float32 logits, from half precision ones (2).
        - Gemma-2's softcap keeps its tanh: c more, 4 in SFT's float32 chunks.
        """
        plan = self.plan
        if plan.stage == "sft":
            return 16 + (4 if plan.shape.softcap else 0)
        copies = 8 if plan.trl_minor >= 14 and not plan.on_cpu else 12
        if plan.stage == "grpo" and plan.trl_minor < 10:
            copies = 16
        if plan.stage == "dpo" and plan.reference:
            copies = max(copies, 8 + (2 if plan.compute == 2 else 0))
        return copies + (plan.compute if plan.shape.softcap else 0)

    @property
    def logits(self) -> float:
        """positions * V * bytes_a_logit."""
        return self.plan.positions * self.plan.shape.vocab * self.bytes_a_logit

    @property
    def in_head(self) -> float:
        """On top of `saved` at the loss: the logits, SFT's reordered copy of the hidden states
        (n * c * H), and in full fine-tuning a gradient of the V * H matrix on its way."""
        plan, shape = self.plan, self.plan.shape
        reordered = plan.tokens * plan.compute * shape.hidden if plan.stage == "sft" else 0
        gradient = plan.stream * shape.head_parameters if plan.full else 0
        return max(self.logits + reordered + (gradient if plan.stage == "sft" else 0), gradient)

    @property
    def activations(self) -> float:
        """saved + the larger of in_head and in_layer: the two do not meet."""
        return self.saved + max(self.in_head, self.in_layer)

    @property
    def peak_at(self) -> str:
        """Where the peak lies: "sampling", "logits" or "layer"."""
        if self.kv_cache > self.activations:
            return "sampling"
        return "logits" if self.in_head > self.in_layer else "layer"

    @property
    def kv_cache(self) -> float:
        """GRPO samples a whole step's completions at once: batch * accumulation sequences of full
        length, 2 * L * K * c a token, and a layer's share again while a token is appended."""
        plan, shape = self.plan, self.plan.shape
        if plan.stage != "grpo":
            return 0.0
        sequences = plan.batch * plan.accumulation
        whole = sequences * plan.length * shape.kv_bytes(plan.compute)
        return whole * (1 + 1 / shape.layers)

    @property
    def overhead(self) -> float:
        """cuBLAS's workspace, on a GPU."""
        return 0.0 if self.plan.on_cpu else WORKSPACE

    @property
    def total(self) -> float:
        """The peak of what is allocated: everything that stays, and the larger of activations and
        KV cache, since sampling and training take turns."""
        stays = self.weights + self.adapters + self.gradients + self.optimizer + self.reference
        return stays + self.overhead + max(self.activations, self.kv_cache)

    @property
    def held(self) -> float:
        """What the allocator keeps although nobody uses it, a rule of thumb.

        GPU: a freed block of the largest size, too small for a longer batch: one float32 copy of
        the logits, or the largest matrix. CPU: glibc returns only blocks above 32 MiB at once; the
        holes that smaller ones leave between what is kept add up to all layers' activations, as if
        nothing were checkpointed (L * layer). MALLOC_MMAP_THRESHOLD_=1048576 in the environment
        avoids most of it, and costs time.
        """
        plan, shape = self.plan, self.plan.shape
        if plan.on_cpu:
            return shape.layers * self.layer
        logits = 4 * plan.positions * shape.vocab
        return max(logits, plan.compute * shape.hidden * shape.intermediate)
