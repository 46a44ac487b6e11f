#!/usr/bin/env bash
# The same on Hugging Face Jobs, which bills by the minute: needs `hf auth login` and a paid plan.
# The job's disk is lost when it ends, so its last line uploads the result to a private repository.
#   REPO=https://github.com/you/postlab TARGET=you/postlab-sft bash recipes/launch/hf_jobs.sh
set -euo pipefail
REPO="${REPO:?the address of your fork, which the job clones}"
TARGET="${TARGET:?the repository on the Hub that gets the result, such as you/postlab-sft}"
FLAVOR="${FLAVOR:-a100x4}"
IMAGE="${IMAGE:-pytorch/pytorch:2.9.1-cuda12.8-cudnn9-devel}"

hf jobs run --flavor "$FLAVOR" --timeout 6h --secrets HF_TOKEN \
    --env "REPO=$REPO" --env "TARGET=$TARGET" "$IMAGE" \
    bash -c 'set -e
        apt-get update -qq && apt-get install -y -qq git make
        git clone --depth 1 "$REPO" postlab && cd postlab && make setup
        source .venv/bin/activate
        bash recipes/launch/machine.sh
        hf upload "$TARGET" runs/several/dpo --private'
