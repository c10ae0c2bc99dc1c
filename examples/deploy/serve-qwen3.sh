#!/bin/sh
# moeplan: gpu=h100-sxm engine_version=0.5.21
set -eu
MODEL=Qwen/Qwen3-235B-A22B
export CUDA_VISIBLE_DEVICES=0,1,2,3,4,5,6,7
exec python3 -m sglang.launch_server \
    --model-path "$MODEL" \
    --tp 8 --ep 8 \
    --context-length 32768 \
    --port "${PORT:-30000}"
