#!/usr/bin/env bash
# GRPO with vLLM on GPUs of its own: the last SERVE of them sample, the others train.
# Needs `pip install "trl[vllm]"` in an environment of its own, as vLLM fixes torch's version.
#   MODEL=Qwen/Qwen2.5-7B-Instruct bash recipes/launch/grpo_server.sh
set -euo pipefail
MODEL="${MODEL:?the base that is trained, a Hub id or a folder}"
PROFILE="${PROFILE:-rented}"
GPUS="${GPUS:-$(nvidia-smi --list-gpus | wc -l)}"
SERVE="${SERVE:-1}"
PORT="${PORT:-8000}"
TRAIN=$((GPUS - SERVE))
((TRAIN > 0)) || { echo "got $GPUS GPUs and SERVE=$SERVE; at least one has to train" >&2; exit 2; }

CUDA_VISIBLE_DEVICES="$(seq -s, "$TRAIN" $((GPUS - 1)))" \
    trl vllm-serve --model "$MODEL" --data_parallel_size "$SERVE" --host 127.0.0.1 --port "$PORT" &
server=$!
trap 'kill "$server"' EXIT

CUDA_VISIBLE_DEVICES="$(seq -s, 0 $((TRAIN - 1)))" \
    accelerate launch --config_file recipes/accelerate/ddp.yaml --num_processes "$TRAIN" \
    recipes/train.py grpo --profile "$PROFILE" --base "$MODEL" \
    --set use_vllm=True --set vllm_mode=server --set vllm_server_base_url="http://127.0.0.1:$PORT"
