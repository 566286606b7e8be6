import io

import pytest

from saebench.progress import ConsoleProgress, NullProgress, Progress


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.fixture
def console():
    clock, stream = Clock(), io.StringIO()
    return ConsoleProgress(stream, clock), clock, stream


def test_both_are_progress():
    assert isinstance(NullProgress(), Progress)
    assert isinstance(ConsoleProgress(io.StringIO()), Progress)


def test_short_work_is_silent(console):
    progress, clock, stream = console
    with progress.task("quick", total=10) as ticker:
        for _ in range(10):
            clock.now += 0.19
            ticker.advance()
    assert stream.getvalue() == ""


def test_lines_have_percent_rate_and_eta_and_are_rare(console):
    progress, clock, stream = console
    with progress.task("encoding", total=80, unit="tokens") as ticker:
        for _ in range(80):
            clock.now += 0.25
            ticker.advance()
    lines = stream.getvalue().splitlines()
    assert lines[0] == "encoding: 10%, 4 tokens/s, ETA 18s"
    assert lines[-1] == "encoding: done, 80 tokens in 20s"
    assert len(lines) == 5  # at 2, 7, 12, 17 s and the end


def test_no_eta_from_less_than_one_percent(console):
    progress, clock, stream = console
    with progress.task("downloading", total=240e6, unit="B") as ticker:
        clock.now = 3.0
        ticker.advance(1e4)
        clock.now = 9.0
        ticker.advance(120e6)
    first, second, _ = stream.getvalue().splitlines()
    assert "ETA" not in first
    assert second == "downloading: 50%, 13.3 MB/s, ETA 9s"


def test_uncountable_work_shows_elapsed_time(console):
    progress, clock, stream = console
    with progress.task("converting") as ticker:
        clock.now = 65.0
        ticker.advance(0)
    assert stream.getvalue().splitlines() == ["converting: 1m05s so far", "converting: done, 1m05s"]


def test_failed_work_is_not_reported_as_done(console):
    progress, clock, stream = console
    with pytest.raises(ZeroDivisionError), progress.task("doomed", total=2):
        clock.now = 10.0
        raise ZeroDivisionError
    assert "done" not in stream.getvalue()


def test_log_goes_to_the_stream(console):
    progress, _, stream = console
    progress.log("hello")
    assert stream.getvalue() == "hello\n"


def test_terminal_gets_a_bar_only_after_the_quiet_time():
    stream = Terminal()
    progress = ConsoleProgress(stream)
    with progress.task("quick", total=10) as ticker:
        ticker.advance(10)
    assert "10" not in stream.getvalue()
    progress.log("hello")
    assert "hello" in stream.getvalue()


HOSTILE = "zoo:\x1b[2J\x9bm\u202e\nError: forged\r"


@pytest.mark.parametrize("kind", [io.StringIO, Terminal])
def test_names_give_no_commands_and_forge_no_lines(kind):
    clock, stream = Clock(), kind()
    progress = ConsoleProgress(stream, clock)
    progress.log(HOSTILE)
    with progress.task(HOSTILE, total=10) as ticker:
        clock.now = 3
        ticker.advance()
    shown = stream.getvalue()
    assert r"zoo:\x1b[2J\x9bm\u202e Error: forged" in shown
    assert "\nError" not in shown
    for command in ("[2J", "\x9b", "\u202e", "rror: forged\r"):
        assert command not in shown.replace(r"\x1b[2J", "")
