"""The control hook: real programs that obey, fail, hang, babble, or are not there."""

import sys
from pathlib import Path

import pytest

from openami.conformance.hook import ANSWER_BYTES_MAX, Hook, HookFailed


def written(directory: Path, script: str) -> Hook:
    file = directory / "hook.py"
    file.write_text(f"import sys\nverb, *words = sys.argv[1:]\n{script}\n")
    return Hook((sys.executable, str(file)))


async def test_it_says_what_it_can_do_and_does_it(tmp_path: Path) -> None:
    done = tmp_path / "done"
    hook = written(
        tmp_path,
        f"""
if verb == "verbs":
    print("unplug plug\\nrelay")
elif verb == "relay":
    print("disconnected" if words == ["M-2"] else "connected")
else:
    open({str(done)!r}, "a").write(" ".join([verb, *words]))
""",
    )
    assert await hook.verbs() == {"unplug", "plug", "relay"}
    await hook.do("unplug", "M-1")
    assert done.read_text() == "unplug M-1"
    assert await hook.relay("M-1") is True
    assert await hook.relay("M-2") is False


@pytest.mark.parametrize(
    ("script", "said"),
    [
        ("sys.exit('socket 3 does not answer')", "ended with 1: socket 3 does not answer"),
        ("sys.exit(7)", "ended with 7: it said nothing"),
        ("print('on')", "printed 'on'; connected or disconnected is asked for"),
        ("print('x' * 100_000)", "connected or disconnected"),
    ],
)
async def test_what_it_could_not_do_is_told_with_its_own_words(
    tmp_path: Path, script: str, said: str
) -> None:
    with pytest.raises(HookFailed, match=said) as failed:
        await written(tmp_path, script).relay("M-1")
    assert len(str(failed.value)) < 1_000


async def test_what_it_says_too_much_is_read_away(tmp_path: Path) -> None:
    """A pipe that nobody empties would stop it for ever."""
    hook = written(tmp_path, f"print('plug ' * {ANSWER_BYTES_MAX}); print('x', file=sys.stderr)")
    assert await hook.verbs() == {"plug"}


async def test_a_program_that_is_not_there_is_named() -> None:
    with pytest.raises(HookFailed, match="no-such-program cannot be run"):
        await Hook(("./no-such-program",)).verbs()


async def test_one_that_hangs_is_ended(tmp_path: Path) -> None:
    hook = Hook(written(tmp_path, "import time\ntime.sleep(60)").command, ends_within_s=0.3)
    with pytest.raises(HookFailed, match="`unplug M-1` has not ended after"):
        await hook.do("unplug", "M-1")
