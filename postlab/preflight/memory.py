"""What a training step holds in memory, byte by byte, from the model's shape alone.

Read from the sources of TRL 0.12 to 1.16, transformers 5.17, PEFT 0.21, bitsandbytes 0.50 and
Unsloth 2026.10, with attention through SDPA or flash attention and dropout 0. In the formulas: H
hidden, A width of all query heads, K of all key heads, I intermediate (of the experts that a token
goes through), V vocabulary, L layers; r the rank; n tokens = batch * length; s bytes of the
residual stream and of weights that are not quantised, c bytes that matrix products work in, t bytes
of a trained parameter.

Precisions: on a GPU c = 2; s = 4 for 32-bit weights, else 2. On a CPU c = s, which is 4 but for
16-bit weights: its 4-bit models work in float32. t = s for full fine-tuning; adapters are float32,
but bfloat16 on a GPU's 4-bit base from TRL 0.26 on (Unsloth does not round them: t = 4 there).
Until TRL 0.25, PEFT's preparation of a 4-bit base made all that is not quantised float32: s = 4.

Left out: a number or two for each token and head, CUDA graphs, offloading but for Unsloth's, tensor
and pipeline parallelism.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

from postlab.preflight.architectures import Architecture

NF4_BLOCK = 64  # weights that share a constant, as in QLoRA
NESTED_BLOCK = 256  # constants that share a constant of their own, with double quantisation
CHUNK = 256  # rows of logits that TRL's SFT loss makes at a time, from 1.7 to 1.14
OFFLOADED = 512  # tokens from which on Unsloth moves checkpointed activations to the host
TILE = 4096 * 32768  # logits that TRL's kernels make at a time, from 1.15 on
PAIRED = ("dpo", "reward")  # an example is two sequences
GIB = 2**30
WORKSPACE = 32 * 2**20  # cuBLAS holds 8 MiB for good, 32 MiB on Hopper
# The allocator's holes, as a share of what comes and goes: with whole logits, and with chunks.
HOLES = {"whole": 0.33, "chunks": 0.13}
LOADED = GIB / 2  # what loading a model with Unsloth leaves behind; fitted
NCCL = 1.0  # GiB that a device's communication takes outside the allocator; fitted
FUSED_CE = 4 * GIB  # the most float32 logits that Unsloth's fused loss makes at a time

# Which maps have adapters, by the options of `estimate(targets=...)`, as indices of `projections`.
TARGETS: dict[str, tuple[int, ...] | None] = {"all": None, "attention": (0, 1, 2, 3), "qv": (0, 2)}
# Optimizers: bytes of state a parameter, t its own size. Bitsandbytes' 8-bit states have a constant
# of four bytes for each 256 values; transformers keeps those of embeddings at 32 bits.
EIGHT_BIT = 1 + 4 / 256
OPTIMIZERS = ("adamw", "adamw_8bit", "paged_adamw_8bit", "lion_8bit", "lion", "adafactor", "sgd")


@dataclass(frozen=True)
class Plan:
    """One training step, as far as memory and time depend on it; `estimate` says what each is."""

    stage: str
    shape: Architecture
    batch: int
    length: int
    bits: int
    lora_rank: int
    new_tokens: int = 0
    accumulation: int = 1
    checkpointing: bool = True
    reference: bool = False
    optimizer: str = "adamw"
    trl: tuple[int, int] = (1, 14)
    on_cpu: bool = False
    targets: str = "all"
    engine: str = "trl"
    devices: int = 1
    parallel: str = "ddp"
    in_backward: bool = False
    room: float = 0.0  # bytes of the device, for what grows into the memory it finds

    @property
    def tokens(self) -> int:
        return self.batch * self.length

    @property
    def full(self) -> bool:
        return self.lora_rank == 0

    @property
    def unsloth(self) -> bool:
        return self.engine == "unsloth"

    @property
    def shards(self) -> int:
        """Devices that each hold a part of the weights and of what is trained."""
        return self.devices if self.parallel == "fsdp" else 1

    @property
    def upcast(self) -> bool:
        """Whether a 4-bit base's embeddings, head and norms were made float32; FSDP was spared."""
        old = self.trl < (0, 26) and not self.unsloth
        return self.bits == 4 and old and self.shards == 1

    @property
    def stream(self) -> int:
        """s in the formulas."""
        if self.bits == 16 or (self.bits == 4 and not self.on_cpu and not self.upcast):
            return 2
        return 4

    @property
    def compute(self) -> int:
        """c in the formulas."""
        return self.stream if self.on_cpu else 2

    @property
    def element(self) -> int:
        """t in the formulas."""
        if self.full:
            return self.stream
        rounded = self.bits == 4 and not self.on_cpu and not self.unsloth and not self.upcast
        return 2 if rounded else 4

    @property
    def parameters(self) -> int:
        """A reward model has a head of one row, which is not counted, instead of V."""
        without_head = self.stage == "reward" and not self.shape.tied
        return self.shape.parameters - (self.shape.head_parameters if without_head else 0)

    @property
    def adapted(self) -> tuple[tuple[int, int], ...]:
        """(in, out) of a layer's maps with adapters."""
        maps, chosen = self.shape.projections, TARGETS[self.targets]
        return maps if chosen is None else tuple(maps[i] for i in chosen)

    @property
    def trained(self) -> int:
        if self.full:
            return self.parameters
        return self.shape.layers * self.lora_rank * sum(i + o for i, o in self.adapted)

    @property
    def positions(self) -> int:
        """Tokens with logits in a pass.

        SFT, DPO: every token. GRPO: the completion's, and one more which TRL drops.
        """
        if self.stage == "grpo":
            return self.batch * (self.new_tokens + 1)
        return 0 if self.stage == "reward" else self.tokens


@dataclass(frozen=True)
class Memory:
    """Bytes of a step's parts on one device; `Memory(plan).total` is the peak of what is allocated.

    FSDP leaves a device its share of weights, adapters, gradients and optimizer; with DDP each
    device has all of them.
    """

    plan: Plan

    @cached_property
    def weights(self) -> float:
        """4 bits: linear / 2 for the codes, linear / 64 for one-byte constants, and 4 bytes for
        each 256 of those; embeddings, head and norms stay at s. Else parameters * bits / 8.

        That is 4.127 bits a quantised weight; without double quantisation it would be 4.5.
        """
        plan, linear = self.plan, self.plan.shape.linear_parameters
        if plan.bits != 4:
            return plan.parameters * plan.bits / 8 / plan.shards
        constants = linear / NF4_BLOCK + 4 * linear / (NF4_BLOCK * NESTED_BLOCK)
        whole = linear / 2 + constants + (plan.parameters - linear) * plan.stream
        return whole / plan.shards

    @property
    def adapters(self) -> float:
        """LoRA's A and B: t * L * r * sum of (in + out) over the maps that have them."""
        return 0.0 if self.plan.full else self.plan.trained * self.plan.element / self.plan.shards

    @property
    def gradients(self) -> float:
        """t a trained parameter, there all the time: they outlive a step's first micro-batch.

        With the optimizer in the backward pass only one at a time: the largest matrix's. DDP sums
        them in buckets, a second copy.
        """
        plan, shape = self.plan, self.plan.shape
        if plan.in_backward:
            return plan.element * max(shape.head_parameters, shape.hidden * shape.intermediate)
        copies = 2 if plan.devices > 1 and plan.parallel == "ddp" else 1
        return copies * plan.trained * plan.element / plan.shards

    @property
    def optimizer(self) -> float:
        """AdamW: two moments in the parameter's own precision, 2 * t each; its 8-bit kind two
        bytes and two 4-byte constants for each 256 parameters, but embeddings 8 bytes. Lion has one
        moment, Adafactor sums of rows and columns, too small to count, SGD nothing."""
        plan = self.plan
        name = plan.optimizer.removeprefix("paged_")
        moments = {"adamw": 2, "lion": 1}.get(name.removesuffix("_8bit"), 0)
        if not name.endswith("_8bit"):
            return moments * plan.trained * plan.element / plan.shards
        embedding = plan.shape.head_parameters if plan.full else 0
        states = (plan.trained - embedding) * EIGHT_BIT + embedding * 4
        return moments * states / plan.shards

    @property
    def update(self) -> float:
        """On top of what stays, while the optimizer steps: until transformers 5 its default AdamW
        went through all parameters at once and kept one more copy of them; the fused one does not.
        """
        plan = self.plan
        if plan.optimizer != "adamw" or plan.trl >= (1, 0) or plan.in_backward or plan.unsloth:
            return 0.0
        return plan.trained * plan.element / plan.shards

    @property
    def reference(self) -> float:
        """A second copy of the weights for full fine-tuning; the base below an adapter is free."""
        return self.weights if self.plan.reference and self.plan.full else 0.0

    @property
    def gathered(self) -> float:
        """With FSDP, what a device has whole for a moment: embeddings, head and norms, and the
        layer that is worked on beside the next one."""
        plan, shape = self.plan, self.plan.shape
        if plan.shards == 1:
            return 0.0
        layer = shape.linear_parameters / shape.layers
        packed = 0.516 if plan.bits == 4 else plan.compute
        return shape.other_parameters * plan.compute + 2 * layer * packed

    @cached_property
    def layer(self) -> float:
        """What one layer keeps for its backward pass, n times:

            norms * 4H           norms keep a float32 input
            cH, cH               what they put out, where a map with adapters or trained reads it
            c (2A + 2K)          query, key, value as attention takes them, and its output
            3cI, cI              gate, its SiLU and up; their product, where a trained map reads it
            rc                   the middle of each adapter
            norms * sH           norms before their scale (full: the scale is trained)
            4 (A + K) [+ c(A + K) full]   norms of query and key
            c (3H + A)           where float32 adapters or weights meet a half-precision c, each
                                 linear map casts its input for itself (A: LoRA only)
        and, once, float32 weights cast to c by autocast: c a parameter of the layer.
        """
        plan, shape = self.plan, self.plan.shape
        c, h, a, k = plan.compute, shape.hidden, shape.query_dim, shape.kv_dim
        whole = plan.full or plan.targets == "all"
        each = shape.norms * 4 * h + c * (2 * a + 2 * k) + 3 * c * shape.mlp_width
        each += c * h + (c * (h + shape.mlp_width) if whole else 0)
        each += (
            shape.norms * plan.stream * h if plan.full else len(plan.adapted) * plan.lora_rank * c
        )
        if shape.qk_norm:
            each += (4 + (c if plan.full else 0)) * (a + k)
        if plan.element == 4 and c == 2:
            each += c * ((3 if whole else 2) * h + (0 if plan.full else a))
        cast = c * shape.linear_parameters / shape.layers if plan.bits == 32 and c == 2 else 0
        return plan.tokens * each + cast

    @cached_property
    def saved(self) -> float:
        """With checkpointing L * s * H * n, the layers' inputs; without, L times `layer`. Then the
        last norm: (4 + c) * H * n. Unsloth moves the inputs to the host and keeps one in turn."""
        plan, h = self.plan, self.plan.shape.hidden
        a_layer = plan.tokens * plan.stream * h if plan.checkpointing else self.layer
        layers = (
            2 if plan.unsloth and plan.checkpointing and plan.length >= 512 else plan.shape.layers
        )
        return layers * a_layer + plan.tokens * h * (4 + plan.compute)

    @cached_property
    def in_layer(self) -> float:
        """On top of `saved` while a layer is worked on backwards: the layer itself where it was
        checkpointed; n * c * (2I + H) of gradients passing through its MLP; a matrix of H * I, the
        dequantised weight (c, 4 bits) or the gradient on its way (s, full fine-tuning); the
        attention mask of a padded batch, as truth values and as numbers: (1 + c) * batch *
        length^2.

        Unsloth's own MLP and attention work in place: c (4I + 3H + 2A + 2K) a token in all, where
        I and H were fitted to its published context lengths.
        """
        plan, shape = self.plan, self.plan.shape
        matrix = plan.compute if plan.bits == 4 else plan.stream if plan.full else 0
        matrix *= shape.hidden * shape.intermediate
        if plan.unsloth and plan.checkpointing:
            widths = 4 * shape.mlp_width + 3 * shape.hidden + 2 * (shape.query_dim + shape.kv_dim)
            return plan.tokens * plan.compute * widths + matrix
        passing = plan.tokens * plan.compute * (2 * shape.mlp_width + shape.hidden)
        padded = plan.batch > 1 and not plan.unsloth
        mask = (1 + plan.compute) * plan.batch * plan.length**2 if padded else 0
        return (self.layer if plan.checkpointing else 0) + passing + matrix + mask

    @property
    def bytes_a_logit(self) -> float:
        """Copies of the logits that exist at once in the loss or its backward pass, in bytes.

        The model's half-precision logits come out of accelerate as float32 (4); then
        - SFT until TRL 1.6, whole: half-precision logits 2, float32 log-softmax and its two
          gradients 12. From 1.7, in chunks: softmax, exp and their product for the entropy, 4 each,
          16 in all.
        - GRPO and DPO until TRL 1.13: the float32 logits that logsumexp kept, a gradient for each
          row and those gradients stacked: 12. GRPO until TRL 1.9 divides a view by the temperature
          in place, and the way back copies what that view belongs to: 16.
        - 1.14 on a GPU, one Triton kernel: the float32 logits and their gradient, 8. A CPU keeps to
          the older way. DPO's reference adds float32 logits, from half precision ones (2).
        - from 1.15 a kernel works on tiles of the logits, in half precision: 2.
        - Unsloth's fused loss: float32 logits and their gradient, 8, in chunks.
        - Gemma-2's softcap keeps its tanh: c more, 4 in SFT's float32 chunks.
        """
        plan, cap = self.plan, self.plan.shape.softcap
        if plan.unsloth:
            return 8 + (4 if cap else 0)
        if plan.trl >= (1, 15) and not plan.on_cpu:
            return plan.compute
        if plan.stage == "sft":
            return (16 if plan.trl >= (1, 7) else 12 + plan.compute) + (4 if cap else 0)
        copies = 8 if plan.trl >= (1, 14) and not plan.on_cpu else 12
        if plan.stage == "grpo" and plan.trl < (1, 10):
            copies = 16
        if plan.stage == "dpo" and plan.reference:
            copies = max(copies, 8 + (2 if plan.compute == 2 else 0))
        return copies + (plan.compute if cap else 0)

    @property
    def _chunked(self) -> bool:
        """Whether the loss makes the logits a chunk at a time."""
        plan = self.plan
        kernels = plan.trl >= (1, 15) and not plan.on_cpu
        return plan.unsloth or kernels or (plan.stage == "sft" and plan.trl >= (1, 7))

    @property
    def logits_at_once(self) -> float:
        """Logits that exist at a time: positions * V, or what a chunked loss makes of them."""
        plan = self.plan
        logits = plan.positions * plan.shape.vocab
        if plan.unsloth:
            # an even share of the pass in a multiple of four chunks, within half of what is free
            free = (plan.room - self._without_logits) / 2 if plan.room else FUSED_CE
            most = max(min(free, FUSED_CE), 2**26) / 4
            return logits if logits <= most else logits / (4 * -(-logits // (4 * most)))
        if plan.trl >= (1, 15) and not plan.on_cpu:
            return min(logits, TILE)
        if plan.stage == "sft" and plan.trl >= (1, 7):
            return min(CHUNK, plan.tokens) * plan.shape.vocab
        return logits

    @property
    def logits(self) -> float:
        """logits_at_once * bytes_a_logit."""
        return self.logits_at_once * self.bytes_a_logit

    @property
    def in_head(self) -> float:
        """On top of `saved` at the loss: the logits, a chunked loss's copy of the hidden states
        (n * c * H; kernels gather its gradient in float32), and in full fine-tuning a gradient of
        the V * H matrix on its way."""
        plan, shape = self.plan, self.plan.shape
        kernels = plan.trl >= (1, 15) and not plan.on_cpu and not plan.unsloth
        copies = (4 if kernels else 0) + (plan.compute if self._chunked else 0)
        hidden = plan.tokens * copies * shape.hidden
        gradient = plan.stream * shape.head_parameters if plan.full else 0
        return max(self.logits + hidden + (gradient if plan.stage == "sft" else 0), gradient)

    @cached_property
    def activations(self) -> float:
        """saved + the larger of in_head and in_layer: the two do not meet.

        Without accumulation the gradients grow as the saved activations go: at the loss there are
        none yet, and the last layer is worked on when all are there.
        """
        whole = self.saved + max(self.in_head, self.in_layer)
        if self.plan.accumulation > 1 or self.plan.in_backward:
            return whole
        return max(whole - self.gradients, self.in_layer)

    @property
    def peak_at(self) -> str:
        """Where the peak lies: "sampling", "update", "logits" or "layer"."""
        if max(self.kv_cache, self.update) > self.activations:
            return "sampling" if self.kv_cache > self.update else "update"
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
    def stays(self) -> float:
        """What is there from the first step to the last."""
        return self.weights + self.adapters + self.gradients + self.optimizer + self.reference

    @cached_property
    def _without_logits(self) -> float:
        return self.stays + self.overhead + self.gathered + self.saved

    @property
    def _passing(self) -> float:
        return max(self.activations, self.kv_cache, self.update)

    @property
    def total(self) -> float:
        """The peak of what is allocated: everything that stays, and the largest of activations, the
        update and the KV cache, since those take turns."""
        return self.stays + self.overhead + self.gathered + self._passing

    @property
    def held(self) -> float:
        """What the allocator keeps although nobody uses it, a rule of thumb.

        GPU: holes between blocks of changing sizes, a share of what comes and goes: HOLES, fitted
        to published peaks; at least a freed block of the largest matrix; with FSDP what was
        gathered before; with Unsloth what loading left. CPU: glibc returns only blocks
        above 32 MiB at once; the holes that smaller ones leave between what is kept add up to all
        layers' activations, as if nothing were checkpointed (L * layer).
        MALLOC_MMAP_THRESHOLD_=1048576 in the environment avoids most of it, and costs time.
        """
        plan, shape = self.plan, self.plan.shape
        if plan.on_cpu:
            return shape.layers * self.layer
        holes = HOLES["chunks" if self._chunked else "whole"] * self._passing
        holes = max(holes, plan.compute * shape.hidden * shape.intermediate)
        return holes + self.gathered + (LOADED if plan.unsloth else 0)
