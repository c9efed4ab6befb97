"""Texts a second of sentence-transformers, run by its own interpreter: MODEL_DIRECTORY THREADS, then on standard input one JSON list
of texts a line. Answers each with one JSON line: seconds, seconds of processor time, and the first vector."""

from __future__ import annotations

import json
import os
import sys
import time

os.environ["HF_HUB_OFFLINE"] = "1"

import torch
from sentence_transformers import SentenceTransformer

torch.set_num_threads(int(sys.argv[2]))
model = SentenceTransformer(sys.argv[1], device="cpu")
model.encode(["warm up"])
print("ready", flush=True)
for line in sys.stdin:
    texts = json.loads(line)
    begun, used_s = time.perf_counter(), time.process_time()
    vectors = model.encode(texts, normalize_embeddings=True)
    print(json.dumps([time.perf_counter() - begun, time.process_time() - used_s, vectors[0].tolist()]), flush=True)
