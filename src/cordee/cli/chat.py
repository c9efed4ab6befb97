"""`cordee chat`: talk to the platform in the terminal, the answer streaming as it is made."""

from __future__ import annotations

import argparse
import sys
from argparse import RawDescriptionHelpFormatter
from collections.abc import Iterator
from contextlib import closing, suppress
from pathlib import Path

from rich.console import Console

from cordee.adapters.keyring import KeysError
from cordee.adapters.keys import admin_key
from cordee.cli.asking import AskError
from cordee.cli.complaint import complain
from cordee.cli.conversation import AnswerError, Conversation, first_model
from cordee.config.load import ConfigError, data_dir, load
from cordee.supervisor.asking import NotRunningError, ask_status

FAILED = 1
USAGE = 2
QUESTION_BYTES_MAX = 8 * 1024 * 1024  # from standard input; what a gateway takes at most by default

EXAMPLES = """examples:
  cordee chat                                   a conversation; /new forgets it, Ctrl-C stops an answer, Ctrl-D ends
  cordee chat "Why is the sky blue?"            one question
  cordee chat --system "Answer in French." "Why is the sky blue?"
  cat report.txt | cordee chat -                the question from standard input
  cordee chat --url http://10.0.0.1:8000/v1     another platform; its key in CORDEE_ADMIN_KEY"""


def add(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    chat = commands.add_parser(
        "chat",
        help="talk to it in the terminal",
        description="Talk to the platform: with a question, answer it and end; without, hold a conversation.",
        epilog=EXAMPLES,
        formatter_class=RawDescriptionHelpFormatter,
    )
    chat.add_argument("question", nargs="?", metavar="QUESTION", help='"-" reads it from standard input')
    chat.add_argument("--data", metavar="DIR", help="data directory (default: ~/.local/share/cordee)")
    chat.add_argument("--config", metavar="FILE", type=Path, help="configuration file")
    chat.add_argument("--url", metavar="URL", help="address to talk to (default: the web address of the platform)")
    chat.add_argument("--model", metavar="NAME", help="model (default: the first one served)")
    chat.add_argument("--system", metavar="TEXT", help="what the model is to know or to be, before the first question")
    chat.add_argument("--max-tokens", metavar="N", type=int, help="longest answer, in tokens")
    chat.add_argument("--temperature", metavar="T", type=float, help="0 always takes the likeliest token")
    chat.add_argument("--seed", metavar="N", type=int, help="the same seed gives the same answer")
    chat.set_defaults(run=_run)


def _run(args: argparse.Namespace) -> int:
    try:
        data = data_dir(args.data)
        running, trusted = ("", "") if args.url else running_at(data)
        base = (args.url or running or f"http://{load(args.config, data).web.address}/v1").rstrip("/")
        key = key_at(data, base)
        model = args.model or first_model(base, key, trusted)
        conversation = Conversation(base, key, model, _options(args), trusted=trusted)
    except (ConfigError, KeysError) as error:
        return complain(str(error), USAGE)
    except AnswerError as error:
        return complain(str(error), FAILED)
    if args.system:
        conversation.messages.append({"role": "system", "content": args.system})
    if args.question is None and sys.stdin.isatty():
        return _converse(conversation, Console())
    question = _read_question() if args.question in (None, "-") else args.question
    return _ask_once(conversation, question)


def key_at(data: Path, base: str) -> str:
    """The admin key, or the token of who has signed in at this platform where there is none. Raises KeysError."""
    try:
        return admin_key(data)
    except KeysError:
        # Who has an admin key does not pay for this.
        from cordee.cli.signed_in import SignedOutError, current, place  # noqa: PLC0415

        with suppress(SignedOutError, AskError, OSError):
            held = current(place())
            if base.removesuffix("/v1") == held.base:
                return held.access
        raise


def running_at(data: Path) -> tuple[str, str]:
    """The address of the platform that runs for `data`, and the certificate to know it by; "" for none."""
    with suppress(NotRunningError):
        status = ask_status(data)
        return status.web or status.mobile, status.certificate
    return "", ""


def _options(args: argparse.Namespace) -> dict[str, int | float]:
    asked = {"max_tokens": args.max_tokens, "temperature": args.temperature, "seed": args.seed}
    return {name: value for name, value in asked.items() if value is not None}


def _read_question() -> str:
    return sys.stdin.buffer.read(QUESTION_BYTES_MAX).decode("utf-8", "replace")


def _ask_once(conversation: Conversation, question: str) -> int:
    if not question.strip():
        return complain("there is no question; see `cordee chat --help`", USAGE)
    try:
        for piece in conversation.ask(question):
            _show(piece)
    except AnswerError as error:
        print(flush=True)
        return complain(str(error), FAILED)
    print(flush=True)
    return 0


def _converse(conversation: Conversation, console: Console) -> int:
    with suppress(ImportError):
        import readline  # noqa: F401, PLC0415 — gives `input` its history and editing where Python was built with it
    console.print(f"[bold]{conversation.model}[/] [dim]at {conversation.base}")
    console.print("[dim]/new forgets the conversation, Ctrl-C stops an answer, Ctrl-D ends\n")
    kept = conversation.messages[:]
    for question in _questions():
        if question == "/new":
            conversation.messages[:] = kept
            console.print("[dim]forgotten\n")
            continue
        _answer(conversation, question, console)
    return 0


def _questions() -> Iterator[str]:
    while True:
        try:
            question = input("› ").strip()
        except EOFError:
            print()
            return
        except KeyboardInterrupt:
            print()
            continue
        if question in ("/exit", "/quit"):
            return
        if question:
            yield question


def _answer(conversation: Conversation, question: str, console: Console) -> None:
    try:
        with closing(conversation.ask(question)) as pieces:
            for piece in pieces:
                _show(piece)
        print("\n", flush=True)
    except KeyboardInterrupt:
        console.print("\n[yellow]stopped\n")
    except AnswerError as error:
        console.print(f"\n{error}\n", style="red", markup=False)


def _show(piece: str) -> None:
    """What a model says must not steer the terminal: control characters but line ends and tabs are left out."""
    if sys.stdout.isatty():
        piece = "".join(c for c in piece if c.isprintable() or c in "\n\t")
    print(piece, end="", flush=True)
