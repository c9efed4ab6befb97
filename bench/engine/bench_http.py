"""Closed-loop streaming load on an HTTP server (127.0.0.1).
usage: bench_http.py URL MODE [key=API-KEY conc=1,4,16,64 plen=64 gen=64 rounds=1 prompts=FILE pid=PID]
MODE llama  : llama-server /completion with token-id prompts, ignore_eos, no prompt cache
MODE openai : POST /v1/completions with text prompts (our engine, llama-cpp-python, vLLM); ignore_eos / logit_bias sent too
Streams SSE; a token = one 'data:' event (llama-server and llama-cpp-python send one per token), or what the server counts in `usage`."""
import asyncio, json, sys, time, os
from urllib.parse import urlparse
url, mode = sys.argv[1:3]
kw = dict(a.split("=", 1) for a in sys.argv[3:])
conc = [int(x) for x in kw.get("conc", "1,4,16,64").split(",")]; gen = int(kw.get("gen", 64)); rounds = int(kw.get("rounds", 1))
auth = "Authorization: Bearer %s\r\n" % kw["key"] if "key" in kw else ""; model = kw.get("model", "smollm2"); u = urlparse(url)
data = json.load(open(kw["prompts"]))          # [{"tokens": [...], "text": "..."}]
def rss(pid):
    try:
        for l in open("/proc/%s/status" % pid):
            if l.startswith("VmRSS"): return round(int(l.split()[1]) / 1024, 1)
    except OSError: return None
async def one(p):
    if mode == "llama":
        path, body = "/completion", dict(prompt=p["tokens"], n_predict=gen, ignore_eos=True, cache_prompt=False, temperature=0, stream=True)
    else:
        path = "/v1/completions"
        body = dict(model=model, prompt=p["text"], max_tokens=gen, temperature=0, stream=True, ignore_eos=True, min_tokens=gen, stream_options={"include_usage": True})
        if "bias" in kw: body["logit_bias"] = {t: -100 for t in kw["bias"].split(",")}
    b = json.dumps(body).encode(); t0 = time.perf_counter()
    r, w = await asyncio.open_connection(u.hostname, u.port)
    w.write(b"POST %s HTTP/1.1\r\nHost: x\r\n%sContent-Type: application/json\r\nConnection: close\r\nContent-Length: %d\r\n\r\n" % (path.encode(), auth.encode(), len(b)) + b)
    await w.drain(); st = await r.readline()
    if b" 200 " not in st: raise RuntimeError(st + await r.read(800))
    n = 0; t1 = None; counted = 0
    while True:
        l = await r.readline()
        if not l: break
        if l.startswith(b"data:") and b"[DONE]" not in l:
            if mode == "llama" and b'"stop":true' in l: continue
            n += 1
            if b'"completion_tokens":' in l: counted = json.loads(l[5:])["usage"]["completion_tokens"]
            if t1 is None: t1 = time.perf_counter()
    w.close(); t2 = time.perf_counter()
    return t1 - t0 if t1 else t2 - t0, t2 - t0, counted or n
async def level(c, n):
    todo = iter(range(n)); res = []
    async def worker():
        for i in todo: res.append(await one(data[i % len(data)]))
    t = time.perf_counter(); cpu = time.process_time()
    await asyncio.gather(*(worker() for _ in range(c)))
    wall = time.perf_counter() - t
    tt = sorted(x[0] for x in res); tok = sum(x[2] for x in res)
    return dict(conc=c, n=n, wall=round(wall, 3), gen_tok_s=round(tok / wall, 1), tok_per_req=round(tok / n, 1), ttft_p50_ms=round(1e3 * tt[len(tt) // 2], 1),
                ttft_max_ms=round(1e3 * tt[-1], 1), client_cpu=round((time.process_time() - cpu) / wall, 3), server_rss=rss(kw.get("pid")))
async def main():
    await level(2, 4)
    for c in conc:
        n = int(kw.get("n", {1: 8, 4: 24, 16: 64}.get(c, 2 * c)))
        rs = [await level(c, n) for _ in range(rounds)]
        print(json.dumps(max(rs, key=lambda x: x["gen_tok_s"])), flush=True)
asyncio.run(main())
