"""A process that tries grammars out, one after the other: it is ended by the kernel when one takes too long or too much memory.

Grammars come from clients and are compiled by native code whose time has no limit of its own. A line in is one grammar, as JSON:
`[syntax, text]`; a line out is what is wrong with it, as JSON text, "" for nothing. The first line out says that it is ready. The limit
on time is one of computing, so that a busy machine refuses nobody.
"""

from __future__ import annotations

import json
import os
import resource
import signal
import sys
from typing import Any

from llguidance import LLTokenizer

from cordee.domain.call import Grammar, Syntax
from cordee.kernels.grammar import GrammarError, byte_tokenizer, matcher, refuse_broken
from cordee.policy.endless import endless

NICE = 10  # whose call this is can wait a little; everybody's tokens cannot
READY = ""


def trial(index: LLTokenizer, grammar: Grammar) -> str:
    """What is wrong with a grammar; "" for nothing."""
    try:
        made = matcher(index, grammar)
        made.compute_bitmask()  # some limits only show when the first token is looked for
        refuse_broken(made)
        if grammar.syntax is Syntax.JSON_SCHEMA:
            where = endless(json.loads(grammar.text))
            if where is not None:
                return f"{where} requires itself, so that no answer would ever end"
    except GrammarError as error:
        return str(error) or "it cannot be compiled"
    except RecursionError:
        return "it is nested too deeply"
    except MemoryError:
        return "it needs too much memory"
    return ""


def main(compute_s: float, memory_bytes: int) -> None:
    """Until there are no more lines."""
    resource.setrlimit(resource.RLIMIT_AS, (memory_bytes, memory_bytes))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # a Ctrl-C in the terminal is for the platform
    os.nice(NICE)
    index = byte_tokenizer()
    _say(READY)
    for line in sys.stdin.buffer:
        syntax, text = json.loads(line)
        signal.setitimer(signal.ITIMER_PROF, compute_s)  # of all threads together; the default is to end the process
        complaint = trial(index, Grammar(Syntax(syntax), text))
        signal.setitimer(signal.ITIMER_PROF, 0)
        _say(complaint)


def _say(what: Any) -> None:
    sys.stdout.buffer.write(json.dumps(what).encode() + b"\n")
    sys.stdout.buffer.flush()


if __name__ == "__main__":
    main(float(sys.argv[1]), int(sys.argv[2]))
