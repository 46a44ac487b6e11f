#!/usr/bin/env bash
# SFT, then DPO, on the GPUs of one machine. Run in the repository's root:
#   CONFIG=recipes/accelerate/fsdp2.yaml METHOD=lora bash recipes/launch/machine.sh
set -euo pipefail
CONFIG="${CONFIG:-recipes/accelerate/ddp.yaml}"
METHOD="${METHOD:-lora}"
PROFILE="${PROFILE:-rented}"
OUTPUT="${OUTPUT:-runs/several}"
GPUS="${GPUS:-$(nvidia-smi --list-gpus | wc -l)}"

launch=(accelerate launch --config_file "$CONFIG" --num_processes "$GPUS" recipes/train.py)
"${launch[@]}" sft --profile "$PROFILE" --method "$METHOD" --output "$OUTPUT/sft"
"${launch[@]}" dpo --profile "$PROFILE" --method "$METHOD" --parent "$OUTPUT/sft" --output "$OUTPUT/dpo"
