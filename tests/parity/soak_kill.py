#!/usr/bin/env python3
"""Kills run, merge, search and serve with SIGKILL at random moments and checks what is left. Only the standard library is needed.

    python3 tests/parity/soak_kill.py target/release [--kills 20] [--seed 1] [run merge search serve]

run and search: one folder, killed again and again while it works, then left alone; everything that it publishes must have the
bytes of a folder that was never disturbed. merge: after each kill the output is either absent or whole. serve: adapters are
loaded and removed under requests while it is killed; the adapters' files stay as they are and the next server starts.
"""
import argparse
import hashlib
import json
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
import urllib.error
import urllib.request
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
# 24 steps, a checkpoint every 4, no generation in the evaluation: a run of seconds with every stage of a real one.
SMALL = ["--set", "train.max_steps=24", "--set", "train.checkpoint_every=4", "--set", "evaluate.suites=[held-out-loss]", "--set", "gate.action=stamp"]
PORT = 6977


class Soak:
    def __init__(self, release, kills, seed, scratch):
        self.train, self.merger = release / "synapse-train", release / "synapse-merge"
        self.kills, self.draw, self.scratch = kills, random.Random(seed), scratch
        self.bad = 0

    def folder(self, name):
        """The repository's recipes and data with an empty outputs folder."""
        folder = self.scratch / name
        folder.mkdir()
        for part in ("recipes", "pipelines", "data"):
            shutil.copytree(ROOT / part, folder / part)
        return folder

    def finish(self, command, folder):
        start = time.monotonic()
        done = subprocess.run(command, cwd=folder, capture_output=True, text=True)
        if done.returncode != 0:
            self.fail(f"{command} ended with {done.returncode}: {done.stderr[-600:]}")
        return time.monotonic() - start

    def kill(self, command, folder, longest):
        """Starts the program and kills it at a random moment; true if it was still at work."""
        child = subprocess.Popen(command, cwd=folder, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True)
        try:
            child.wait(self.draw.uniform(0.0, longest))
            return False
        except subprocess.TimeoutExpired:
            child.send_signal(signal.SIGKILL)
            child.wait()
            return True

    def fail(self, message):
        self.bad += 1
        print(f"  WRONG: {message}", flush=True)

    def compare(self, one, other, what):
        first, second = published(one), published(other)
        for name in sorted(first.keys() | second.keys()):
            if first.get(name) != second.get(name):
                self.fail(f"{what}: {name} differs" if name in first and name in second else f"{what}: {name} is in one folder only")
        print(f"  {what}: {len(first)} published files compared", flush=True)

    def lineage(self, name, command, prepare):
        """One folder disturbed, one not."""
        calm, disturbed = prepare(f"{name}-calm"), prepare(f"{name}-killed")
        seconds = self.finish(command, calm)
        hits = starts = 0
        while hits < self.kills and starts < 4 * self.kills:
            starts += 1
            if self.kill(command, disturbed, max(0.5, min(seconds / 4, 8.0))):
                hits += 1
            else:
                # done: from the beginning, so that every kill hits something
                shutil.rmtree(disturbed)
                disturbed = prepare(f"{name}-killed")
        self.finish(command, disturbed)
        print(f"{name}: {hits} kills in {starts} starts of a program that takes {seconds:.1f} s", flush=True)
        self.compare(calm, disturbed, name)

    def run(self):
        self.lineage("run", [self.train, "run", "pipelines/quickstart.yaml", "--offline", *SMALL], self.folder)

    def search(self):
        trained = self.folder("search-trained")
        self.finish([self.train, "run", "pipelines/quickstart.yaml", "--offline", *SMALL], trained)
        prepare = lambda name: Path(shutil.copytree(trained, self.scratch / name))
        command = [self.train, "search", "pipelines/quickstart.yaml", "--offline", "--trims", "0.6", "--lambdas", "1", "--rounds", "1", *SMALL]
        self.lineage("search", command, prepare)

    def merge(self):
        folder = self.folder("merge")
        self.finish([self.train, "run", "pipelines/quickstart.yaml", "--offline", *SMALL], folder)
        adapters = [argument for name in ("math", "code", "general", "coordinator") for argument in ("--adapter", f"outputs/nano-{name}")]
        command = [self.merger, "--method", "ties", "--trim", "0.8", "--base", "data/nano/base", *adapters, "--out"]
        seconds = self.finish([*command, "outputs/calm"], folder)
        hits = starts = whole = 0
        while hits < self.kills and starts < 8 * self.kills:
            starts += 1
            hits += self.kill([*command, "outputs/killed"], folder, seconds)
            if (folder / "outputs/killed").exists():
                whole += 1
                self.compare_folders(folder / "outputs/calm", folder / "outputs/killed")
                shutil.rmtree(folder / "outputs/killed")
        self.finish([*command, "outputs/killed"], folder)
        self.compare_folders(folder / "outputs/calm", folder / "outputs/killed")
        print(f"merge: {hits} kills in {starts} starts of a program that takes {seconds:.2f} s; it was whole {whole} times", flush=True)

    def compare_folders(self, one, other):
        if hashes(one) != hashes(other):
            self.fail(f"{other.name} differs from {one.name}")

    def serve(self):
        folder = self.folder("serve")
        self.finish([self.train, "run", "pipelines/quickstart.yaml", "--offline", *SMALL], folder)
        before = hashes(folder / "outputs")
        answered = loads = 0
        for _ in range(self.kills):
            command = [self.train, "serve", "data/nano/base", "--adapter-root", "outputs", "--port", str(PORT)]
            child = subprocess.Popen(command, cwd=folder, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
            if not healthy():
                self.fail("the server did not start")
            stop, counts = threading.Event(), [0, 0]
            threads = [threading.Thread(target=self.clients, args=(stop, counts, index)) for index in range(4)]
            for thread in threads:
                thread.start()
            time.sleep(self.draw.uniform(0.05, 2.0))
            child.kill()
            child.wait()
            stop.set()
            for thread in threads:
                thread.join()
            answered, loads = answered + counts[0], loads + counts[1]
            if hashes(folder / "outputs") != before:
                self.fail("the adapters' files changed")
        print(f"serve: {self.kills} kills; {answered} answers, adapters were loaded and removed {loads} times", flush=True)

    def clients(self, stop, counts, index):
        names = ["nano-math", "nano-code", "nano-general", "nano-coordinator"]
        while not stop.is_set():
            name = names[index]
            try:
                post("/v1/adapters", {"name": name, "path": name})
                post("/v1/chat/completions", {"model": name, "max_tokens": 8, "messages": [{"role": "user", "content": "What is 2 + 3?"}]})
                counts[0] += 1
                urllib.request.urlopen(urllib.request.Request(f"http://127.0.0.1:{PORT}/v1/adapters/{name}", method="DELETE"), timeout=10).read()
                counts[1] += 1
            except urllib.error.HTTPError as error:
                if error.code == 429:  # one adapter is loaded at a time, the others try again
                    time.sleep(0.005)
                    continue
                self.fail(f"{name}: {error.code} {error.read()[:200]}")
            except OSError:
                time.sleep(0.01)
            except Exception as error:  # the connection was cut within an answer
                if not stop.is_set() and "IncompleteRead" not in repr(error) and "RemoteDisconnected" not in repr(error):
                    self.fail(f"{name}: {error!r}")


def post(path, body):
    request = urllib.request.Request(f"http://127.0.0.1:{PORT}{path}", json.dumps(body).encode(), {"Content-Type": "application/json"})
    return json.load(urllib.request.urlopen(request, timeout=10))


def healthy():
    for _ in range(200):
        try:
            return urllib.request.urlopen(f"http://127.0.0.1:{PORT}/health", timeout=5).status == 200
        except OSError:
            time.sleep(0.05)
    return False


def hashes(folder):
    return {str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest() for path in sorted(folder.rglob("*")) if path.is_file()}


def published(folder):
    """What is published, without the records of runs, which have times in them; nothing unfinished may lie beside it."""
    found = hashes(folder / "outputs")
    return {name: value for name, value in found.items() if not name.startswith("runs/") and not name.endswith("README.md")}


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("release", type=Path)
    parser.add_argument("what", nargs="*")
    parser.add_argument("--kills", type=int, default=20)
    parser.add_argument("--seed", type=int, default=1)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        soak = Soak(arguments.release.resolve(), arguments.kills, arguments.seed, Path(scratch))
        for what in arguments.what or ["run", "merge", "search", "serve"]:
            getattr(soak, what)()
    print("nothing was lost" if soak.bad == 0 else f"{soak.bad} things went wrong")
    sys.exit(soak.bad > 0)


if __name__ == "__main__":
    main()
