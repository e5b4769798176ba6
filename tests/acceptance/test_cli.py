"""The command line, as a user runs it: the real command against a real server."""

from __future__ import annotations

import csv
import io
import json
import os
import re
import shutil
import signal
import subprocess
from collections.abc import Iterator, Mapping
from importlib.metadata import version
from pathlib import Path
from typing import Any

import pytest
import urllib3

from tests.support.server import COMMAND, RunningServer, running_server, without_settings

pytestmark = pytest.mark.integration

UNKNOWN_ID = f"{'0' * 31}1-{'0' * 15}1"
WRONG = {"response": "Your account looks fine."}
RIGHT = {"response": "I see the duplicate charge. Refund initiated."}
COMMANDS = [
    ("serve",),
    ("demo",),
    ("decisions", "list"),
    ("decisions", "show"),
    ("mark",),
    ("correct",),
    ("replay",),
    ("compare",),
    ("sql",),
    ("import",),
    ("keys", "create"),
    ("keys", "list"),
    ("keys", "rotate"),
    ("keys", "revoke"),
]


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningServer]:
    """One server for the tests of this file; each makes the decisions it looks at."""
    with running_server(tmp_path_factory.mktemp("server")) as running:
        yield running


@pytest.fixture
def loopgrid(shared: RunningServer, tmp_path: Path):
    """Runs a command against the shared server."""

    def run(*words: str, **options: Any) -> subprocess.CompletedProcess[str]:
        options.setdefault("cwd", tmp_path)
        environ = {"LOOPGRID_ENDPOINT": shared.api} | options.pop("environ", {})
        return command(*words, environ=environ, **options)

    return run


def command(
    *words: str, environ: Mapping[str, str] | None = None, **options: Any
) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [COMMAND, *words],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
        env=without_settings(os.environ) | dict(environ or {}),
        **options,
    )


def assert_failed(ended: subprocess.CompletedProcess[str], *said: str) -> None:
    """Exit code 2 and one sentence that says what to do."""
    assert ended.returncode == 2, ended
    assert len(ended.stderr.splitlines()) == 1, ended.stderr
    assert "Traceback" not in ended.stderr
    for word in said:
        assert word in ended.stderr


def record(server: RunningServer, **facts: Any) -> str:
    """A decision recorded through the API; its id."""
    body = {"decision_type": "reply", "input": {"message": "I was charged twice"}, "output": WRONG} | facts
    answer = urllib3.request("POST", f"{server.api}/v1/decisions", json=body)
    assert answer.status == 201, answer.data
    return str(answer.json()["decision_id"])


@pytest.fixture
def decorated(shared: RunningServer, repository: Path) -> str:
    """The double charge as the example application really decided it; its id."""
    program = (
        "import loopgrid, support_agent, tickets;"
        "loopgrid.configure(service_name='support-agent');"
        "(ticket,) = [one for one in tickets.read_tickets() if one.id == 'T-2044'];"
        "support_agent.reply(ticket.message); assert loopgrid.flush(30)"
    )
    ran = subprocess.run(
        [Path(COMMAND).with_name("python"), "-W", "error", "-c", program],
        cwd=repository / "examples" / "support_agent",
        env=without_settings(os.environ) | {"LOOPGRID_ENDPOINT": shared.api},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert ran.returncode == 0, ran.stderr
    query = {
        "query": "SELECT decision_id FROM decisions WHERE function IS NOT NULL ORDER BY recorded_at DESC"
    }
    rows = urllib3.request("POST", f"{shared.api}/v1/sql", json=query).json()["rows"]
    return str(rows[0][0])


@pytest.mark.parametrize("words", COMMANDS, ids=" ".join)
def test_every_command_has_help_with_an_example_that_can_be_pasted(words):
    ended = command(*words, "--help", environ={"COLUMNS": "80"})
    assert ended.returncode == 0
    assert f"Example: loopgrid {' '.join(words)}" in " ".join(ended.stdout.split())
    first, *more = ended.stdout.partition("Example: ")[2].splitlines()
    for line, following in zip([first, *more], more, strict=False):
        assert line.endswith(" \\"), following
    assert not re.search(r"--\S+ <(list|int range)", ended.stdout)


def test_the_version_is_told():
    ended = command("--version")
    assert (ended.returncode, ended.stdout) == (0, f"loopgrid {version('loopgrid')}\n")


def test_the_help_lists_every_command():
    ended = command("--help")
    assert ended.returncode == 0
    for words in COMMANDS:
        assert re.search(rf"^  {words[0]} ", ended.stdout, re.MULTILINE)


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["serv"], "serve"),
        (["decisions", "lst"], "list"),
        (["decisions", "list", "--modle", "x"], "--model"),
        (["mark", UNKNOWN_ID], "--reason"),
        (["serve", "--port", "http"], "--port"),
        (["decisions", "list", "--limit", "0"], "--limit"),
        (["decisions", "list", "--metadata", "gold"], "tier=gold"),
        (["sql", "SELECT 1", "--json", "--csv"], "--csv"),
        (["replay", UNKNOWN_ID, "--override", "version"], "prompt.version=2"),
        (["correct", UNKNOWN_ID, "--by", "dana", "--output", "plain text"], "double quotes"),
        (["correct", UNKNOWN_ID, "--by", "dana", "--output", "@nowhere.json"], "nowhere.json"),
        (["replay", UNKNOWN_ID, "--app", "no_such_module"], "no_such_module"),
        (["decisions", "list", "--endpoint", "localhost"], "localhost"),
    ],
)
def test_a_wrong_call_is_one_sentence_that_names_what_is_wrong(words, said):
    assert_failed(command(*words), said)


def test_asking_for_nothing_shows_the_help():
    ended = command()
    assert ended.returncode == 2
    assert "Commands" in ended.stdout + ended.stderr


@pytest.mark.parametrize(
    "words",
    [
        ["decisions", "list"],
        ["sql", "SELECT 1"],
        ["sql", "SELECT 1", "--csv"],
        ["mark", UNKNOWN_ID, "--reason", "x"],
    ],
    ids=" ".join,
)
def test_without_a_server_the_command_says_that_none_answers(words):
    assert_failed(command(*words, "--endpoint", "http://127.0.0.1:9"), "http://127.0.0.1:9")


def test_a_list_takes_the_filters_of_the_api(loopgrid, shared):
    decision_id = record(shared, prompt={"name": "only-here", "version": "7"}, metadata={"tier": "gold"})
    words = ["--prompt-name", "only-here", "--prompt-version", "7", "--metadata", "tier=gold", "--json"]
    page = json.loads(loopgrid("decisions", "list", *words).stdout)
    assert [decision["decision_id"] for decision in page["items"]] == [decision_id]
    assert json.loads(loopgrid("decisions", "list", *words, "--incorrect").stdout)["items"] == []


def test_a_list_shows_what_replays_made_when_asked(loopgrid, shared):
    decision_id = record(shared, decision_type="replayed-elsewhere")
    body = {"decision_id": decision_id, "executor": "external", "output": RIGHT}
    assert urllib3.request("POST", f"{shared.api}/v1/replays", json=body).status == 201
    words = ["decisions", "list", "--decision-type", "replayed-elsewhere", "--json"]
    assert len(json.loads(loopgrid(*words).stdout)["items"]) == 1
    assert len(json.loads(loopgrid(*words, "--include-replays").stdout)["items"]) == 2


@pytest.mark.parametrize("words", [["decisions", "list"], ["sql", "SELECT 1", "--csv"]], ids=" ".join)
def test_an_endpoint_that_is_the_otlp_port_is_recognised(shared, words):
    assert_failed(command(*words, "--endpoint", shared.otlp_http), "is that the API port, by default 8000?")


def test_a_list_of_nothing_says_so(loopgrid):
    ended = loopgrid("decisions", "list", "--decision-type", "never-decided")
    assert (ended.returncode, ended.stdout) == (0, "")
    assert "No decisions match" in ended.stderr


def test_a_long_list_says_how_to_go_on(loopgrid, shared):
    ids = {record(shared, decision_type="paged") for _ in range(3)}
    words = ["decisions", "list", "--decision-type", "paged", "--limit", "2"]
    first = loopgrid(*words)
    cursor = re.search(r"--cursor (\S+)", first.stderr)
    assert cursor is not None
    second = loopgrid(*words, "--cursor", cursor[1])
    assert {one for one in ids if one in first.stdout + second.stdout} == ids
    assert "--cursor" not in second.stderr


def test_show_prints_the_decision_whole(loopgrid, shared):
    decision_id = record(shared, model={"provider": "openai", "name": "gpt-4"})
    ended = loopgrid("decisions", "show", decision_id)
    assert ended.returncode == 0
    for word in (decision_id, "gpt-4", "I was charged twice", WRONG["response"]):
        assert word in ended.stdout
    assert json.loads(loopgrid("decisions", "show", decision_id, "--json").stdout)["output"] == WRONG


def test_show_tells_what_became_of_a_decision_and_where_its_history_is(loopgrid, shared):
    decision_id = record(shared, metadata={"order": "4711-show"})
    reported = loopgrid(
        "outcome", "order", "4711-show", "--outcome", '{"refund": "accepted"}', "--by", "shop"
    )
    assert reported.returncode == 0, reported.stderr
    shown = loopgrid("decisions", "show", decision_id)
    (line,) = [line for line in shown.stdout.splitlines() if "out_" in line]
    assert "order 4711-show by shop:" in line
    assert "accepted" in shown.stdout
    assert f"loopgrid history {decision_id}" in shown.stderr


def test_an_unknown_decision_is_one_sentence(loopgrid):
    for words in (["decisions", "show", UNKNOWN_ID], ["mark", UNKNOWN_ID, "--reason", "x"]):
        assert_failed(loopgrid(*words), UNKNOWN_ID)


def test_a_malformed_id_is_one_sentence(loopgrid):
    assert_failed(loopgrid("decisions", "show", "abc"), "decision id")


def test_marks_and_corrections_are_appended(loopgrid, shared, tmp_path):
    decision_id = record(shared)
    (tmp_path / "right.json").write_text(json.dumps(RIGHT))
    marked = loopgrid("mark", decision_id, "--reason", "Missed billing issue", "--by", "dana")
    corrected = loopgrid("correct", decision_id, "--output", "@right.json", "--by", "dana", "--json")
    assert (marked.returncode, corrected.returncode) == (0, 0), marked.stderr + corrected.stderr
    decision = json.loads(loopgrid("decisions", "show", decision_id, "--json").stdout)
    assert decision["output"] == WRONG
    assert decision["ground_truth"]["output"] == RIGHT
    assert [mark["mark_id"] in marked.stdout for mark in decision["marks"]] == [True]
    assert json.loads(corrected.stdout)["correction_id"] == decision["corrections"][0]["correction_id"]


def test_a_decision_that_cannot_run_again_is_refused_honestly(loopgrid, shared):
    ended = loopgrid("replay", record(shared), "--override", "prompt.template=new")
    assert ended.returncode == 1
    assert re.match(r"rpl_[0-9a-f]{32} refused: \w+", ended.stdout)


def test_without_app_a_replay_is_pending_and_says_what_it_takes(loopgrid, decorated):
    ended = loopgrid("replay", decorated, "--override", "prompt.version=2")
    assert ended.returncode == 0, ended.stderr
    assert re.match(r"rpl_[0-9a-f]{32} pending: \w+", ended.stdout)
    assert "--app" in ended.stdout
    made = json.loads(loopgrid("replay", decorated, "--json").stdout)
    assert (made["status"], made["result_decision_id"]) == ("pending", None)


def test_with_app_the_function_runs_again_and_the_comparison_says_fixed(loopgrid, decorated, repository):
    cwd = repository / "examples" / "support_agent"
    words = ["replay", decorated, "--override", "prompt.version=2", "--app", "support_agent", "--json"]
    ended = loopgrid(*words, cwd=cwd)
    assert ended.returncode == 0, ended.stderr
    replay = json.loads(ended.stdout)
    assert replay["status"] == "completed"
    result = json.loads(loopgrid("decisions", "show", replay["result_decision_id"], "--json").stdout)
    assert result["output"]["action"] == "refund_duplicate"
    assert result["replay_of"] == decorated

    changed = loopgrid("compare", decorated, replay["replay_id"])
    assert (changed.returncode, "changed" in changed.stdout) == (0, True), changed
    loopgrid("correct", decorated, "--output", json.dumps(result["output"]), "--by", "dana")
    fixed = loopgrid("compare", decorated, replay["replay_id"], environ={"COLUMNS": "100"})
    assert fixed.returncode == 0, fixed.stderr
    for word in ("decision", "replay", "correction", "verdict: fixed", "support v1", "support v2", "≠"):
        assert word in fixed.stdout
    loopgrid("correct", decorated, "--output", '{"action": "other"}', "--by", "dana")
    still_wrong = loopgrid("compare", decorated, replay["replay_id"], "--json")
    assert still_wrong.returncode == 1
    assert json.loads(still_wrong.stdout)["verdict"] == "still_wrong"


def test_an_app_that_decides_on_import_records_the_replay_only(server, tmp_path):
    (tmp_path / "careless.py").write_text(
        "import loopgrid\n"
        "@loopgrid.decision\n"
        "def reply(message: str) -> str:\n"
        "    return message.upper()\n"
        "reply('hello')\n"
    )
    environ = {"LOOPGRID_ENDPOINT": server.api}
    run = without_settings(os.environ) | environ
    subprocess.run([Path(COMMAND).with_name("python"), "careless.py"], cwd=tmp_path, env=run, check=True)
    listed = command("decisions", "list", "--json", environ=environ)
    (recorded,) = json.loads(listed.stdout)["items"]

    ended = command("replay", recorded["decision_id"], "--app", "careless", environ=environ, cwd=tmp_path)

    assert ended.returncode == 0, ended.stderr
    answer = urllib3.request("GET", f"{server.api}/v1/decisions?include_replays=true")
    assert [item["replay_of"] for item in answer.json()["items"]] == [recorded["decision_id"], None]
    assert {item["function"] for item in answer.json()["items"]} == {"careless.reply"}


def test_an_app_that_fails_on_import_is_one_sentence(loopgrid, decorated, tmp_path):
    (tmp_path / "broken_app.py").write_text("raise RuntimeError('no database here')\n")
    assert_failed(loopgrid("replay", decorated, "--app", "broken_app"), "no database here")


def test_an_app_that_is_only_a_folder_here_is_one_sentence(loopgrid, decorated, tmp_path):
    (tmp_path / "support_agent").mkdir()
    ended = loopgrid("replay", decorated, "--app", "support_agent")
    assert_failed(ended, "run it where the module is")


def test_a_replay_that_fails_says_why(loopgrid, decorated, repository, tmp_path):
    app = Path(shutil.copytree(repository / "examples" / "support_agent", tmp_path / "app"))
    with (app / "support_agent.py").open("a") as file:
        file.write("\n\ndef answer(*_):\n    raise KeyError('refund')\n")
    ended = loopgrid("replay", decorated, "--app", "support_agent", cwd=app)
    assert ended.returncode == 1, ended
    replay_id, said = ended.stdout.splitlines()[0].split(" ", 1)
    assert said == "failed: KeyError: 'refund'"
    shown = loopgrid("compare", decorated, replay_id)
    assert shown.returncode == 1
    assert "The replay failed: KeyError: 'refund'" in shown.stdout
    assert shown.stdout.count("(nothing ran to an end)") == 1


def test_an_app_without_the_function_is_one_sentence(loopgrid, decorated, tmp_path):
    (tmp_path / "empty_app.py").touch()
    assert_failed(loopgrid("replay", decorated, "--app", "empty_app"), "support_agent.reply")


def test_an_unknown_override_is_refused_with_the_nearest_name(loopgrid, decorated):
    assert_failed(loopgrid("replay", decorated, "--override", "prompts.version=2"), "prompt")


def test_sql_prints_a_table_json_or_csv(loopgrid, shared):
    decision_id = record(shared, decision_type="asked-by-sql")
    query = "SELECT decision_id, output FROM decisions WHERE decision_type = 'asked-by-sql'"
    shown = loopgrid("sql", query, environ={"COLUMNS": "80"})
    assert shown.returncode == 0, shown.stderr
    assert decision_id in shown.stdout
    answer = json.loads(loopgrid("sql", query, "--json").stdout)
    assert [column["name"] for column in answer["columns"]] == ["decision_id", "output"]
    assert answer["rows"][0][0] == decision_id
    names, row = csv.reader(io.StringIO(loopgrid("sql", query, "--csv").stdout))
    assert (names, row[0]) == (["decision_id", "output"], decision_id)


def test_sql_reads_the_query_from_stdin(loopgrid):
    ended = loopgrid("sql", "-", "--csv", input="SELECT 42 AS answer")
    assert ended.stdout.split() == ["answer", "42"]


@pytest.mark.parametrize("flag", [[], ["--csv"]], ids=["table", "csv"])
def test_bad_sql_is_one_sentence(loopgrid, flag):
    assert_failed(loopgrid("sql", "SELECT nothing FROM nowhere", *flag), "nowhere")


def test_sql_that_writes_is_refused(loopgrid):
    refused = loopgrid("sql", "DELETE FROM store.spans")
    assert_failed(refused, "DELETE", "SELECT")
    assert "API_KEY" not in refused.stderr


@pytest.fixture
def samples(repository: Path) -> Path:
    return repository / "tests" / "data" / "otlp-samples"


def test_protobuf_and_json_files_become_decisions_once(server, samples):
    chat = samples / "genai-openai-1.3b0" / "span-only" / "chat"
    for files in ([chat / "01-traces.pb"], [chat / "01-traces.json"], [chat]):
        ended = command("import", *map(str, files), "--endpoint", server.api)
        assert ended.returncode == 0, ended.stderr
        assert "rejected" in ended.stdout
    query = "SELECT model_name, input_tokens, output_tokens FROM decisions"
    rows = json.loads(command("sql", query, "--json", "--endpoint", server.api).stdout)["rows"]
    assert rows == [["gpt-5-mini", 42, 17]]


def test_an_import_goes_on_after_a_bad_line_and_names_it(loopgrid, samples, tmp_path):
    cases = sorted((samples / "genai-openai-1.3b0" / "span-only").glob("chat*/01-traces.json"))[:2]
    good = [json.dumps(json.loads(case.read_text())) for case in cases]
    export = tmp_path / "export.jsonl"
    export.write_text("\n".join([good[0], "{not json", '{"resourceSpans": 7}', good[1]]) + "\n")
    ended = loopgrid("import", "export.jsonl", "--json")
    assert ended.returncode == 1, ended.stderr
    report = json.loads(ended.stdout)
    assert [refusal["where"] for refusal in report["refusals"]] == ["export.jsonl:2", "export.jsonl:3"]
    assert report["stored"]["traces"] + report["duplicates"]["traces"] == sum(
        line.count('"spanId"') for line in good
    )
    spoken = loopgrid("import", "export.jsonl")
    assert "refused export.jsonl:2: " in spoken.stderr
    assert spoken.stdout.startswith("1 file, ")
    assert spoken.stdout.endswith(" rejected, 2 refusals.\n")


def test_protobuf_that_is_no_request_is_refused_by_name(loopgrid, tmp_path):
    (tmp_path / "noise-traces.pb").write_bytes(b"\xff" * 40)
    ended = loopgrid("import", "noise-traces.pb")
    assert ended.returncode == 1
    assert "noise-traces.pb" in ended.stderr


def test_a_folder_without_otlp_files_is_a_wrong_call(loopgrid, tmp_path):
    assert_failed(loopgrid("import", str(tmp_path)), ".jsonl")


FREE_PORTS = ["--port", "0", "--otlp-http-port", "0", "--otlp-grpc-port", "0"]


def test_serve_tells_people_where_it_is_and_stops_on_ctrl_c(tmp_path):
    with subprocess.Popen(
        [COMMAND, "serve", *FREE_PORTS], cwd=tmp_path, stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        told = "".join(process.stdout.readline() for _ in range(5))
        process.send_signal(signal.SIGINT)
        assert process.wait(30) == 0
    assert len(set(re.findall(r"127\.0\.0\.1:(\d+)", told))) == 3
    assert "loopgrid.duckdb" in told
    assert (tmp_path / "loopgrid.duckdb").exists()


def test_environment_variables_mirror_the_flags(tmp_path):
    environ = {
        "LOOPGRID_LEDGER": str(tmp_path / "from-env.duckdb"),
        "LOOPGRID_PORT": "0",
        "LOOPGRID_OTLP_HTTP_PORT": "0",
        "LOOPGRID_OTLP_GRPC_PORT": "0",
    }
    with subprocess.Popen(
        [COMMAND, "serve", "--json"],
        cwd=tmp_path,
        stdout=subprocess.PIPE,
        text=True,
        env=without_settings(os.environ) | environ,
    ) as process:
        assert process.stdout is not None
        told = json.loads(process.stdout.readline())
        process.terminate()
        assert process.wait(30) == 0
    assert told["ledger"] == environ["LOOPGRID_LEDGER"]
    assert Path(told["ledger"]).exists()


def test_a_port_taken_is_one_sentence_that_names_it(shared, tmp_path):
    port = shared.api.rpartition(":")[2]
    assert_failed(command("serve", *FREE_PORTS, "--port", port, cwd=tmp_path), port, "--port")


def test_a_ledger_in_use_is_one_sentence(shared, tmp_path):
    ended = command("serve", *FREE_PORTS, "--ledger", str(shared.ledger), cwd=tmp_path)
    assert_failed(ended, str(shared.ledger))


def test_a_ledger_in_no_folder_is_one_sentence(tmp_path):
    ended = command("serve", *FREE_PORTS, "--ledger", "no/such/folder/x.duckdb", cwd=tmp_path)
    assert_failed(ended, "no/such/folder")


def test_a_setting_of_the_wrong_type_is_one_sentence(tmp_path):
    ended = command("serve", cwd=tmp_path, environ={"LOOPGRID_PORT": "http"})
    assert_failed(ended, "LOOPGRID_PORT")


def test_a_setting_that_duckdb_could_not_read_is_one_sentence(tmp_path):
    ended = command("serve", *FREE_PORTS, cwd=tmp_path, environ={"LOOPGRID_DUCKDB_MEMORY": "lots"})
    assert_failed(ended, "LOOPGRID_DUCKDB_MEMORY", '"1GB"')


def test_a_mistyped_variable_is_warned_of_with_the_nearest_name(tmp_path):
    environ = {"LOOPGRID_LEDGR": "x.duckdb", "LOOPGRID_API_KEY": "k", "LOOPGRID_DUCKDB_MEMORY": "lots"}
    ended = command("serve", *FREE_PORTS, cwd=tmp_path, environ=environ)
    warning, _refusal = ended.stderr.splitlines()
    assert "LOOPGRID_LEDGR" in warning
    assert "did you mean LOOPGRID_LEDGER?" in warning
