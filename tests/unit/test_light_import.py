"""`import sessions` is light enough for any web backend."""

from __future__ import annotations

import json
import subprocess
import sys

HEAVY = ["pydantic_ai", "openai", "qdrant_client", "onnxruntime", "tokenizers", "numpy", "fastapi", "uvicorn", "httpx"]
LIMIT_MB = 70

MEASURE = """
import json, sys, time
began = time.monotonic()
import sessions
took = time.monotonic() - began
modules = sorted(sys.modules)
import psutil  # not `ru_maxrss`: a child starts with its parent's
print(json.dumps({"modules": modules, "seconds": took, "mb": psutil.Process().memory_info().rss / (1 << 20)}))
"""


def test_importing_sessions_loads_no_engine() -> None:
    """A web backend gets no engine, vector store or HTTP server by the import, and at most 70 MB."""
    done = subprocess.run([sys.executable, "-c", MEASURE], capture_output=True, text=True, check=True)
    told = json.loads(done.stdout)
    print(f"import sessions: {told['seconds']:.2f} s, {told['mb']:.0f} MB")
    assert [name for name in HEAVY if name in told["modules"]] == []
    assert told["mb"] <= LIMIT_MB
    assert done.stderr == ""
