#!/usr/bin/env python3
"""llama.cpp through llama-cpp-python, for bench_peers.py: prompt and generated tokens/s of one request (medians) as JSON.

The time of the first token is taken off generation. The binding costs some milliseconds a token; `llama-bench` of a llama.cpp build
would be a little faster.
"""
import json
import statistics
import sys
import time

from llama_cpp import Llama

path, prompt, tokens, rounds = sys.argv[1], int(sys.argv[2]), int(sys.argv[3]), int(sys.argv[4])
llama = Llama(path, n_ctx=prompt + tokens + 8, n_threads=2, n_threads_batch=2, verbose=False)
# any tokens take the same time
ids = [100 + i * 7 % 300 for i in range(prompt)]


def timed(ids, count):
    llama.reset()
    start = time.perf_counter()
    for _ in zip(range(count), llama.generate(ids, temp=0.0, repeat_penalty=1.0)):
        pass
    return time.perf_counter() - start


prefill = statistics.median(len(ids) / timed(ids, 1) for _ in range(rounds))
decode = statistics.median(tokens / (timed(ids[:16], tokens + 1) - timed(ids[:16], 1)) for _ in range(rounds))
print(json.dumps({"prefill_tokens_per_second": prefill, "decode_tokens_per_second": decode}))
