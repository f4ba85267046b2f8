"""The controller and the twin over real HTTP: orders, refusals, and every fault that the twin can be told to have."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio
from aiohttp import web

from connectors.twin.controller import TwinController
from contracts.errors import ConfigError, Conflict, Unavailable
from contracts.events import ActionKind, PlanStep, StepKind
from contracts.ports import Controller, StepReport, StepState
from tests.connectors.twin.running import WORKLOADS, Running, serving, until
from tests.connectors.twin.test_plans import action, named

ADD = PlanStep(kind=StepKind.ADD)
DRAIN = PlanStep(kind=StepKind.DRAIN, subject="chat-0")
REMOVE = PlanStep(kind=StepKind.REMOVE, subject="chat-0", final=True)


@pytest_asyncio.fixture
async def twin(tmp_path: Path) -> AsyncIterator[Running]:
    async with serving(tmp_path) as running:
        yield running


@pytest_asyncio.fixture
async def controller(twin: Running) -> AsyncIterator[Controller]:
    async with TwinController(twin.info.control_url) as made:
        yield made


async def done(controller: Controller, token: str) -> StepReport:
    async def ended() -> bool:
        return (await controller.inspect(token)).state is not StepState.RUNNING

    await until(ended)
    return await controller.inspect(token)


async def test_a_scale_up_and_a_scale_down_from_observation_to_the_end(twin: Running, controller: Controller) -> None:
    before = await controller.observe("chat")
    assert (before.serving, before.starting, before.manual_changes) == (("chat-0", "chat-1"), (), 0)
    up = await controller.plan(action(ActionKind.SCALE_UP, 1), before)
    assert await controller.dry_run("chat", up.steps[0]) == ""
    await controller.apply("chat", up.steps[0], "up", 1)
    assert await done(controller, "up") == StepReport(StepState.DONE, "chat-2", "ready")

    during = await controller.observe("chat")
    assert during.serving == ("chat-0", "chat-1", "chat-2")
    down = await controller.plan(action(ActionKind.SCALE_DOWN, 1), during)
    drain, remove = down.steps
    await controller.apply("chat", drain, "drain", 2)
    assert (await done(controller, "drain")).state is StepState.DONE
    assert drain.subject in twin.discovered(), "a draining replica is still scraped"
    await controller.apply("chat", remove, "remove", 2)
    assert (await done(controller, "remove")).detail == "gone"
    assert drain.subject not in twin.discovered()
    after = await controller.observe("chat")
    assert (len(after.serving), after.draining, after.manual_changes) == (2, (), 0)
    assert await twin.effects() == {"up": 1, "drain": 1, "remove": 1}


async def test_both_ways_back(twin: Running, controller: Controller) -> None:
    await controller.apply("chat", ADD, "t1", 1)
    await controller.undo("chat", ADD, "t1", "t2", 1)
    assert (await done(controller, "t2")).state is StepState.DONE
    await controller.apply("chat", DRAIN, "t3", 1)
    await controller.undo("chat", DRAIN, "t3", "t4", 1)
    assert (await done(controller, "t4")).detail.startswith("in rotation")
    assert await twin.phases() == {"chat-0": "ready", "chat-1": "ready", "code-0": "ready"}


async def test_settings_and_shares_and_their_ways_back(twin: Running, controller: Controller) -> None:
    before = await controller.observe("chat")
    assert (before.settings["chat-0"]["max_num_seqs"], before.shares) == (64.0, {})
    (retune,) = (await controller.plan(named(ActionKind.TUNE, chat_0=1), before)).steps
    assert await controller.dry_run("chat", retune) == ""
    await controller.apply("chat", retune, "t1", 1)
    assert "last replica" in await controller.dry_run("chat", retune.model_copy(update={"subject": "chat-1"}))
    assert (await done(controller, "t1")).state is StepState.DONE
    assert (await controller.observe("chat")).settings["chat-0"]["max_num_seqs"] == 16.0
    await controller.undo("chat", retune, "t1", "u1", 1)
    assert (await done(controller, "u1")).detail == "serves as before"
    weigh = PlanStep(kind=StepKind.WEIGH, by_replica={"chat-0": 0.75, "chat-1": 0.25})
    await controller.apply("chat", weigh, "t2", 1)
    assert (await controller.observe("chat")).shares == weigh.by_replica
    await controller.undo("chat", weigh, "t2", "u2", 1)
    assert (await controller.observe("chat")).shares == {}
    assert await twin.effects() == dict.fromkeys(("t1", "u1", "t2", "u2"), 1)
    assert "no engine setting 'seqs'" in await controller.dry_run(
        "chat", retune.model_copy(update={"settings": {"seqs": 1.0}})
    )


async def test_refusals_are_conflicts_for_old_fences_and_config_errors_for_the_rest(controller: Controller) -> None:
    await controller.apply("chat", ADD, "t1", 5)
    with pytest.raises(Conflict, match="fence 4 is older than 5"):
        await controller.apply("chat", ADD, "t2", 4)
    with pytest.raises(Conflict, match="fence 4 is older than 5"):
        await controller.undo("chat", ADD, "t1", "t3", 4)
    with pytest.raises(ConfigError, match="no workload 'a/b c'"):
        await controller.observe("a/b c")
    with pytest.raises(ConfigError, match="no workload 'nothing'"):
        await controller.apply("nothing", ADD, "t4", 5)
    with pytest.raises(ConfigError, match="cannot remove chat-0") as refused:
        await controller.apply("chat", REMOVE, "t5", 5)
    assert "Drain a replica" in refused.value.fix
    with pytest.raises(ConfigError, match="token"):
        await controller.apply("chat", ADD, "x" * 201, 5)
    assert "cannot remove chat-0" in await controller.dry_run("chat", REMOVE)
    assert "no workload" in await controller.dry_run("nothing", ADD)
    for token in ("t2", "t3", "t4", "t5", "a/token with ?strange#parts%"):
        assert await controller.inspect(token) == StepReport(StepState.UNKNOWN)


async def test_an_order_that_was_failed_was_not_taken(twin: Running, controller: Controller) -> None:
    await twin.faults(fail=2)
    for _ in range(2):
        with pytest.raises(Unavailable, match="HTTP 500: told to fail"):
            await controller.apply("chat", ADD, "t1", 1)
    assert (await controller.inspect("t1")).state is StepState.UNKNOWN
    await controller.apply("chat", ADD, "t1", 1)
    assert await twin.effects() == {"t1": 1}


async def test_an_order_whose_answer_was_cut_off_was_taken_and_a_repeat_does_nothing(
    twin: Running, controller: Controller
) -> None:
    await twin.faults(drop_answer=2)
    with pytest.raises(Unavailable, match=r"ServerDisconnectedError|ClientOSError"):
        await controller.apply("chat", ADD, "t1", 1)
    with pytest.raises(Unavailable):
        await controller.apply("chat", ADD, "t1", 1)
    assert (await controller.inspect("t1")).subject == "chat-2"
    await controller.apply("chat", ADD, "t1", 1)
    assert await twin.effects() == {"t1": 1}
    assert sorted(await twin.phases()) == ["chat-0", "chat-1", "chat-2", "code-0"]


async def test_an_answer_that_comes_too_late_leaves_the_caller_in_doubt_and_inspection_settles_it(
    twin: Running,
) -> None:
    await twin.faults(answer_delay_s=30)
    async with TwinController(twin.info.control_url, timeout_s=0.5) as controller:
        with pytest.raises(Unavailable, match=r"no answer within 0\.5 s"):
            await controller.apply("chat", ADD, "t1", 1)
        assert (await controller.inspect("t1")).subject == "chat-2"
    assert await twin.effects() == {"t1": 1}


async def test_a_delayed_order_is_taken_now_and_done_later(twin: Running, controller: Controller) -> None:
    await twin.faults(delay_s=10)
    await controller.apply("chat", ADD, "t1", 1)
    assert await controller.inspect("t1") == StepReport(StepState.RUNNING, "", "taken")
    assert (await done(controller, "t1")).subject == "chat-2"


async def test_a_liar_is_found_out_by_observation_only(twin: Running, controller: Controller) -> None:
    await twin.faults(lie=True)
    await controller.apply("chat", ADD, "t1", 1)
    assert (await controller.inspect("t1")).state is StepState.DONE
    assert len((await controller.observe("chat")).serving) == 2
    assert await twin.effects() == {"t1": 0}


async def test_without_capacity_the_dry_run_says_so_and_the_order_is_refused(
    twin: Running, controller: Controller
) -> None:
    await twin.faults(capacity=2)
    assert "no capacity" in await controller.dry_run("chat", ADD)
    with pytest.raises(ConfigError, match="no capacity"):
        await controller.apply("chat", ADD, "t1", 1)
    assert (await controller.inspect("t1")).state is StepState.UNKNOWN
    await controller.apply("code", ADD, "t2", 1)


async def test_a_lost_replica_is_reported_as_failed_and_its_undo_clears_it_away(
    twin: Running, controller: Controller
) -> None:
    await twin.faults(lose=1)
    await controller.apply("chat", ADD, "t1", 1)
    assert (await done(controller, "t1")).state is StepState.FAILED
    assert (await controller.observe("chat")).failed == ("chat-2",)
    await controller.undo("chat", ADD, "t1", "t2", 1)
    assert (await done(controller, "t2")).state is StepState.DONE
    assert "chat-2" not in await twin.phases()


@pytest.mark.parametrize(
    ("command", "counted"),
    [("replicas", True), ("drain", True), ("freeze", False), ("slow", False), ("fail", False), ("reset", False)],
)
async def test_changes_by_hand_are_counted_and_faults_are_not(
    twin: Running, controller: Controller, command: str, counted: bool
) -> None:
    subject = "chat" if command == "replicas" else "chat-0"
    body = {"delay_s": 1} if command == "slow" else None
    await twin.control("POST", f"/fleet/{subject}/{command}", body)
    assert (await controller.observe("chat")).manual_changes == int(counted)
    assert (await controller.observe("code")).manual_changes == 0


async def test_a_command_by_hand_that_changes_nothing_is_no_change(twin: Running, controller: Controller) -> None:
    for status, command in ((200, "drain"), (200, "drain"), (200, "restore"), (409, "restore")):
        assert (await twin.control("POST", f"/fleet/chat-0/{command}"))[0] == status
    assert (await controller.observe("chat")).manual_changes == 2
    _, told = await twin.control("GET", "/actuation/notices?after=1")
    (notice,) = told["notices"]
    assert (notice["number"], notice["change"], notice["summary"]) == (2, 2, "chat-0 was restored by hand")


@pytest.mark.parametrize(
    ("method", "path", "body", "status", "says"),
    [
        ("POST", "/actuation/chat/apply", {"kind": "explode", "token": "t", "fence": 1}, 422, "kind"),
        ("POST", "/actuation/chat/apply", {"kind": "add", "token": "", "fence": 1}, 422, "token"),
        ("POST", "/actuation/chat/apply", {"kind": "add", "token": "t", "fence": -1}, 422, "fence"),
        ("POST", "/actuation/chat/undo", {"kind": "add", "token": "t", "fence": 1}, 422, "done_token"),
        ("POST", "/actuation/chat/check", {"kind": "add", "more": 1}, 422, "more"),
        ("POST", "/actuation/chat/remove", {}, 404, "Not Found"),
        ("GET", "/actuation/nothing", None, 404, "no workload 'nothing'"),
        ("PUT", "/actuation/faults", {"delay_s": -1}, 422, "delay_s"),
        ("GET", "/actuation/notices?after=-1", None, 422, "after='-1'"),
    ],
)
async def test_bad_requests_are_refused_in_json(
    twin: Running, method: str, path: str, body: Any, status: int, says: str
) -> None:
    found, answer = await twin.control(method, path, body)
    assert (found, says in answer["error"]["message"]) == (status, True)
    assert answer["error"]["fix"]


async def test_a_journal_that_cannot_be_written_makes_the_twin_unavailable(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with serving(tmp_path, journal=tmp_path / "journal.jsonl") as twin:
        (tmp_path / "journal.jsonl").unlink()
        (tmp_path / "journal.jsonl").mkdir()
        status, answer = await twin.control("POST", "/actuation/chat/apply", {"kind": "add", "token": "t", "fence": 1})
        assert status == 503
        assert "journal cannot be kept" in answer["error"]["message"]
        (tmp_path / "journal.jsonl").rmdir()


async def test_nobody_there_is_unavailable() -> None:
    with socket.create_server(("127.0.0.1", 0)) as held:
        port = held.getsockname()[1]
    async with TwinController(f"http://127.0.0.1:{port}") as controller:
        with pytest.raises(Unavailable, match="Connect"):
            await controller.observe("chat")


@pytest.mark.parametrize("body", [b"", b"not json", b"[]", b'{"state":"perhaps"}', b'{"at_ms":"x"}'])
async def test_an_answer_that_is_something_else_is_unavailable(body: bytes) -> None:
    async def answer(_: web.Request) -> web.Response:
        return web.Response(body=body)

    app = web.Application()
    app.router.add_route("*", "/{path:.*}", answer)
    runner = web.AppRunner(app)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    try:
        async with TwinController(f"{site.name}/") as controller:
            with pytest.raises(Unavailable, match="something else"):
                await controller.observe("chat")
            with pytest.raises(Unavailable, match="something else"):
                await controller.inspect("t")
            with pytest.raises(Unavailable, match="something else"):
                await controller.dry_run("chat", ADD)
    finally:
        await runner.cleanup()


async def test_misuse_is_told() -> None:
    with pytest.raises(ConfigError, match="no address"):
        TwinController("127.0.0.1:80")
    with pytest.raises(ConfigError, match="not open"):
        await TwinController("http://127.0.0.1:1").observe("chat")


async def test_a_restarted_twin_goes_on_where_it_was(tmp_path: Path) -> None:
    journal = tmp_path / "journal.jsonl"
    async with serving(tmp_path, journal=journal) as twin, TwinController(twin.info.control_url) as controller:
        await controller.apply("chat", ADD, "t1", 3)
        await done(controller, "t1")
        await controller.apply("chat", DRAIN, "t2", 3)
        await done(controller, "t2")
    async with serving(tmp_path, journal=journal) as twin, TwinController(twin.info.control_url) as controller:
        assert await twin.phases() == {"chat-0": "draining", "chat-1": "ready", "chat-2": "ready", "code-0": "ready"}
        assert twin.discovered() == {"chat-0", "chat-1", "chat-2", "code-0"}
        await asyncio.gather(*(twin.page(name) for name in twin.info.replicas))
        await controller.apply("chat", ADD, "t1", 3)
        with pytest.raises(Conflict):
            await controller.apply("chat", ADD, "t3", 2)
        await controller.undo("chat", DRAIN, "t2", "t4", 3)
        assert await twin.effects() == {"t1": 1, "t2": 1, "t4": 1}
    assert WORKLOADS[0].replicas == 2, "the specified start is not what it began with"
