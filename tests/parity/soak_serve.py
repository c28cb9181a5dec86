"""Many clients at once against a running server, a third of which leave in the middle of an answer.

    synapse-train serve outputs/quickstart --port 6990 --max-waiting 256 --prefix-cache 16 &
    python3 tests/parity/soak_serve.py 127.0.0.1:6990 $! --clients 200 --seconds 120

Every answer of a client that stays must be the one that the same request gets alone; when all have gone the server must hold
no sequence, and its memory must be as flat in the second half as the listing shows. Only the standard library is needed.
"""

import argparse
import asyncio
import itertools
import json
import random
import sys
import time

QUESTIONS = [
    "What is {a} + {b}?",
    "What is {a} times {b}?",
    "Define f(x) to return the larger of x and {a}.",
    "Please write f(x, y). It must return x plus {b}.",
    "Which animal says moo?",
    "Tell me about number {a}.",
]


def bodies(count):
    """Different requests: some greedy, some drawn with a seed, some with several answers."""
    for index in range(count):
        question = QUESTIONS[index % len(QUESTIONS)].format(a=index + 2, b=3 * index + 1)
        yield {
            "messages": [{"role": "user", "content": question}],
            "max_tokens": 8 + index % 40,
            "temperature": 0 if index % 2 else 1,
            "seed": index,
            "n": 1 + index % 3 // 2,
        }


async def post(address, body, leave_after=None):
    """The texts of a request's answers; None if it left, or was refused for want of room."""
    host, port = address.rsplit(":", 1)
    reader, writer = await asyncio.open_connection(host, int(port))
    try:
        data = json.dumps(body).encode()
        head = f"POST /v1/chat/completions HTTP/1.1\r\nHost: {address}\r\nContent-Type: application/json\r\n"
        writer.write(f"{head}Content-Length: {len(data)}\r\nConnection: close\r\n\r\n".encode() + data)
        if leave_after is not None and not body.get("stream"):
            await asyncio.sleep(leave_after / 100)
            return None
        status = int((await reader.readline()).split()[1])
        while (await reader.readline()).strip():
            pass
        if status == 429:
            return None
        if status != 200:
            raise AssertionError(f"status {status}: {(await reader.read())[:300]}")
        if not body.get("stream"):
            answer = json.loads(await reader.read())
            return [choice["message"]["content"] for choice in answer["choices"]]
        texts, events = [""] * body.get("n", 1), 0
        async for line in reader:
            if not line.startswith(b"data: "):
                continue
            if line.strip() == b"data: [DONE]":
                return texts
            for choice in json.loads(line[6:])["choices"]:
                texts[choice["index"]] += choice["delta"].get("content", "")
            events += 1
            if leave_after is not None and events > leave_after:
                return None
        raise AssertionError("the stream broke off")
    finally:
        writer.close()


async def client(index, shared):
    """Asks again and again; every third client leaves in the middle, with a request that nobody else sends."""
    draw = random.Random(index)
    while time.monotonic() < shared.end:
        choice = draw.randrange(len(shared.bodies))
        body = {**shared.bodies[choice], "stream": draw.random() < 0.5}
        if index % 3 == 0:
            own = f"{draw.randrange(10**9)} " * draw.randrange(1, 12)
            body["messages"] = [{"role": "user", "content": own}]
            await post(shared.address, body, leave_after=draw.randrange(1, 8))
            shared.left += 1
            continue
        texts = await post(shared.address, body)
        if texts is None:
            shared.refused += 1
            await asyncio.sleep(0.2)
        elif texts == shared.alone[choice]:
            shared.equal += 1
        else:
            shared.different.append((body, texts, shared.alone[choice]))


def resident(pid):
    with open(f"/proc/{pid}/status") as status:
        return next(int(line.split()[1]) for line in status if line.startswith("VmRSS")) / 1024


async def watch(shared, pid):
    start = time.monotonic()
    while True:
        shared.memory.append(resident(pid))
        counts = f"{shared.equal} equal, {shared.left} left, {shared.refused} refused"
        print(f"{time.monotonic() - start:5.0f} s  RSS {shared.memory[-1]:6.1f} MB  {counts}", flush=True)
        await asyncio.sleep(5)


async def held(address):
    host, port = address.rsplit(":", 1)
    reader, writer = await asyncio.open_connection(host, int(port))
    writer.write(f"GET /metrics HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n\r\n".encode())
    text = (await reader.read()).decode()
    writer.close()
    names = ("synapse_sequences_running ", "synapse_sequences_waiting ", "synapse_kv_cache_tokens ")
    return {line.split()[0]: int(float(line.split()[1])) for line in text.splitlines() if line.startswith(names)}


class Shared:
    """What all clients see."""

    def __init__(self, address):
        self.address, self.end = address, 0.0
        self.bodies, self.alone, self.memory, self.different = list(bodies(60)), [], [], []
        self.equal = self.left = self.refused = 0


async def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("address")
    parser.add_argument("pid", type=int)
    parser.add_argument("--clients", type=int, default=200)
    parser.add_argument("--seconds", type=float, default=120)
    arguments = parser.parse_args()
    shared = Shared(arguments.address)
    for body in shared.bodies:
        shared.alone.append(await post(shared.address, body))
    shared.end = time.monotonic() + arguments.seconds
    watcher = asyncio.create_task(watch(shared, arguments.pid))
    await asyncio.gather(*(client(index, shared) for index in range(arguments.clients)))
    watcher.cancel()
    for _ in range(100):
        now = await held(shared.address)
        if not any(now.values()):
            break
        await asyncio.sleep(0.1)
    print(f"at the end RSS {resident(arguments.pid):.1f} MB, {now}")
    half = shared.memory[len(shared.memory) // 2 :]
    print(f"second half: RSS {min(half):.1f} to {max(half):.1f} MB")
    for body, got, alone in itertools.islice(shared.different, 3):
        print(f"different: {body}\n  {got}\n  {alone}")
    print(f"{shared.equal} answers equal, {len(shared.different)} different; {shared.left} left, {shared.refused} refused")
    return 1 if shared.different or any(now.values()) or not shared.equal else 0


if __name__ == "__main__":
    sys.exit(asyncio.run(main()))
