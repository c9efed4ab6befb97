"""cordee.v1.Chat: who may call, how an answer comes, which status stands for which trouble, and what else the port offers."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator
from typing import Any

import grpc
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha.proto_reflection_descriptor_database import ProtoReflectionDescriptorDatabase

from cordee.gateway.mobile.grpc.exchange import RpcExchange
from cordee.gateway.mobile.grpc.server import GrpcServer
from cordee.gateway.mobile.grpc.service import ChatService, GrpcRules
from cordee.http.exchange import Answer
from cordee.wire import errors
from cordee.wire.v1.chat_pb2 import ChatAnswer, ChatEvent, ChatRequest, Error, Message, ResumeRequest
from tests.gateway.doubles import KEY, OTHER_KEY, PATIENCE_S
from tests.gateway.mobile.doubles import MobileGateway
from tests.rig import until

GOOD = (("authorization", f"Bearer {KEY}"),)
SERVING, NOT_SERVING = health_pb2.HealthCheckResponse.SERVING, health_pb2.HealthCheckResponse.NOT_SERVING


def ask(**more: Any) -> ChatRequest:
    return ChatRequest(**{"model": "m", "messages": [Message(role="user", content="hi")], **more})


class Client:
    def __init__(self, port: int) -> None:
        self.channel = grpc.insecure_channel(f"127.0.0.1:{port}")
        of, to = "/cordee.v1.Chat/", ChatEvent.FromString
        self.create = self.channel.unary_stream(of + "Create", ChatRequest.SerializeToString, to)
        self.resume = self.channel.unary_stream(of + "Resume", ResumeRequest.SerializeToString, to)
        self.complete = self.channel.unary_unary(of + "Complete", ChatRequest.SerializeToString, ChatAnswer.FromString)


@pytest.fixture(scope="module")
def shared() -> Iterator[tuple[MobileGateway, Client]]:
    with MobileGateway(GrpcRules(message_bytes_max=4096)) as gateway:
        client = Client(gateway.grpc_port)
        yield gateway, client
        client.channel.close()
    assert gateway.faults == []


@pytest.fixture
def gateway(shared: tuple[MobileGateway, Client]) -> Iterator[MobileGateway]:
    gateway = shared[0]
    gateway.worker.act = lambda receiver, attempt: False
    gateway.worker.calls.clear()
    gateway.worker.cancelled.clear()
    gateway.resumed.clear()
    yield gateway
    until(lambda: not gateway.call(lambda: len(gateway.watch.open)), "no call is left", PATIENCE_S)
    gateway.report()


@pytest.fixture
def client(shared: tuple[MobileGateway, Client]) -> Client:
    return shared[1]


def status(call: Any) -> tuple[grpc.StatusCode, Error]:
    """How an RPC failed."""
    with pytest.raises(grpc.RpcError) as caught:
        list(call())
    trailing = dict(caught.value.trailing_metadata() or ())
    return caught.value.code(), Error.FromString(trailing.get("cordee-error-bin", b""))


def test_a_call_is_created_told_in_deltas_finished_and_counted(gateway, client):
    created, *deltas, finished, usage = client.create(ask(seed=1), metadata=GOOD)
    assert created.created.model == "m"
    assert created.created.stream == created.created.call_id != ""
    assert "".join(event.delta.text for event in deltas) == "Hello é!"
    assert finished.finished.reason == "stop"
    assert usage.usage.completion_tokens == 9


def test_a_whole_answer_comes_at_once(gateway, client):
    answer = client.complete(ask(n=2, max_tokens=3), metadata=GOOD)
    assert [(one.index, one.text, one.finish_reason) for one in answer.choices] == [
        (0, "Hel", "length"),
        (1, "Hel", "length"),
    ]
    assert answer.usage.completion_tokens == 6


@pytest.mark.parametrize(
    ("metadata", "code"),
    [
        ((), grpc.StatusCode.UNAUTHENTICATED),
        ((("authorization", "Bearer sk-bad"),), grpc.StatusCode.UNAUTHENTICATED),
        ((("authorization", f"Basic {KEY}"),), grpc.StatusCode.UNAUTHENTICATED),
        ((("x-api-key", "sk-narrow"),), grpc.StatusCode.PERMISSION_DENIED),
        ((*GOOD, ("x-api-key", OTHER_KEY)), grpc.StatusCode.INVALID_ARGUMENT),
    ],
)
def test_who_may_not_is_told_by_the_status(gateway, client, metadata, code):
    assert status(lambda: client.create(ask(), metadata=metadata))[0] == code
    assert gateway.worker.calls == []


@pytest.mark.parametrize(
    ("request_", "code", "param"),
    [
        (ask(model="x"), grpc.StatusCode.NOT_FOUND, "model"),
        (ask(temperature=3.0), grpc.StatusCode.INVALID_ARGUMENT, "temperature"),
        (ask(messages=[]), grpc.StatusCode.INVALID_ARGUMENT, "messages"),
        (ask(n=99), grpc.StatusCode.INVALID_ARGUMENT, "n"),
        (ask(idempotency_key="a\nb"), grpc.StatusCode.INVALID_ARGUMENT, "idempotency_key"),
    ],
)
def test_what_cannot_be_meant_names_its_parameter(gateway, client, request_, code, param):
    told, error = status(lambda: client.create(request_, metadata=GOOD))
    assert (told, error.param) == (code, param)
    assert error.message


def test_a_limit_of_the_key_says_when_to_ask_again(gateway, client):
    rare = (("x-api-key", "sk-rare"),)
    list(client.create(ask(), metadata=rare))
    with pytest.raises(grpc.RpcError) as caught:
        list(client.create(ask(), metadata=rare))
    assert caught.value.code() == grpc.StatusCode.RESOURCE_EXHAUSTED
    assert int(dict(caught.value.trailing_metadata())["retry-after"]) > 0


def test_a_message_beyond_the_limit_is_refused(gateway, client):
    long = ask(messages=[Message(role="user", content="x" * 5000)])
    assert status(lambda: client.create(long, metadata=GOOD))[0] == grpc.StatusCode.RESOURCE_EXHAUSTED


def test_a_replica_that_fails_is_unavailable_or_worse_and_never_a_short_answer(gateway, client):
    def act(receiver, attempt):
        receiver.token(0, 0, ord("H"), None)
        receiver.broken("it fell", ran=True, fault=True)
        return True

    gateway.worker.act = act
    heard = []
    with pytest.raises(grpc.RpcError) as caught:
        heard.extend(client.create(ask(), metadata=GOOD))
    assert caught.value.code() in (
        grpc.StatusCode.UNAVAILABLE,
        grpc.StatusCode.INTERNAL,
        grpc.StatusCode.INVALID_ARGUMENT,
    )
    assert not any(event.HasField("finished") for event in heard)


def test_the_clients_deadline_is_the_calls(gateway, client):
    gateway.worker.act = lambda receiver, attempt: True
    assert status(lambda: client.create(ask(), metadata=GOOD, timeout=2))[0] == grpc.StatusCode.DEADLINE_EXCEEDED
    assert gateway.worker.cancelled.wait(PATIENCE_S)
    assert gateway.worker.calls[0].deadlines.total_s < 2.5


def test_a_cancelled_rpc_stops_its_worker(gateway, client):
    begun = threading.Event()

    def act(receiver, attempt):
        receiver.token(0, 0, ord("H"), None)
        begun.set()
        return True

    gateway.worker.act = act
    call = client.create(ask(), metadata=GOOD)
    assert next(call).HasField("created")
    assert begun.wait(PATIENCE_S)
    call.cancel()
    assert gateway.worker.cancelled.wait(PATIENCE_S)


def test_a_client_that_comes_back_gets_the_rest(gateway, client):
    created, delta, usage = client.resume(ResumeRequest(stream="abc", position="3.ff"), metadata=GOOD)
    assert created.created.resumable
    assert (delta.delta.text, delta.position) == ("rest", "9.ab")
    assert usage.usage.completion_tokens == 2
    assert gateway.resumed == [("abc", "3.ff")]


@pytest.mark.parametrize("request_", [ResumeRequest(), ResumeRequest(stream="unknown"), ResumeRequest(stream="a\r\nb"),
                                      ResumeRequest(stream="a", position="1\n")])  # fmt: skip
def test_a_stream_that_is_not_there_is_not_found(gateway, client, request_):
    told, error = status(lambda: client.resume(request_, metadata=GOOD))
    assert (told, error.code) == (grpc.StatusCode.NOT_FOUND, "stream_not_found")


def test_health_follows_readiness(gateway, client):
    stub = health_pb2_grpc.HealthStub(client.channel)

    def health(service: str) -> int:
        found: int = stub.Check(health_pb2.HealthCheckRequest(service=service)).status
        return found

    until(lambda: health("") == health("cordee.v1.Chat") == SERVING, "it serves", PATIENCE_S)
    gateway.is_ready = False
    until(lambda: health("") == health("cordee.v1.Chat") == NOT_SERVING, "it no longer serves", PATIENCE_S)
    gateway.is_ready = True
    until(lambda: health("") == SERVING, "it serves again", PATIENCE_S)


def test_a_gateway_that_shuts_down_takes_no_more_calls(gateway, client):
    gateway.grpc.stop_accepting()
    told, error = status(lambda: client.create(ask(), metadata=GOOD))
    assert (told, error.code) == (grpc.StatusCode.UNAVAILABLE, "shutting_down")
    gateway.grpc._service.is_closing = False


def test_the_service_can_be_explored(client):
    database = ProtoReflectionDescriptorDatabase(client.channel)
    assert "cordee.v1.Chat" in database.get_services()
    assert "grpc.health.v1.Health" in database.get_services()
    assert "ResumeRequest" in [m.name for m in database.FindFileContainingSymbol("cordee.v1.Chat").message_type]


def test_an_address_in_use_is_told_with_its_cure(gateway):
    service = ChatService(GrpcRules(), gateway.keys, gateway.calls.chat, gateway._resume)

    async def listen() -> None:
        server = GrpcServer(service, lambda: True)
        try:
            await server.listen(f"127.0.0.1:{gateway.grpc_port}")
        finally:
            await server.close(0)

    with pytest.raises(OSError, match="--grpc"):
        asyncio.run_coroutine_threadsafe(listen(), gateway._loop).result(PATIENCE_S)


class Ear:
    def __init__(self) -> None:
        self.heard: list[str] = []

    def gone(self) -> None:
        self.heard.append("gone")

    def cancelled(self) -> None:
        self.heard.append("cancelled")

    def writable(self) -> None:
        self.heard.append("writable")


def test_a_client_that_does_not_take_its_events_is_slow_until_it_has():
    asyncio.run(_take_slowly())


async def _take_slowly() -> None:
    exchange, ear = RpcExchange(10, is_unary=False, is_resumable=False), Ear()
    exchange.listener = ear
    exchange.write(b"x" * 8)
    assert not exchange.is_slow
    exchange.write(b"x" * 8)
    assert exchange.is_slow
    events = exchange.events()
    await anext(events)
    assert ear.heard == []
    exchange.end(b"z")
    assert [event async for event in events] == [b"x" * 8, b"z"]
    exchange.leave()
    assert ear.heard == []


def test_an_rpc_that_ends_before_its_call_is_a_client_that_left():
    exchange, ear = RpcExchange(10, is_unary=False, is_resumable=False), Ear()
    exchange.listener = ear
    exchange.leave()
    exchange.write(b"late")
    exchange.answer(Answer(500, b"", errors.body(500, "late")))
    assert ear.heard == ["gone"]
    assert not exchange.is_open
    assert exchange.refused is None
