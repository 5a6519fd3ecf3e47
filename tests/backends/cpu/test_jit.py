"""From the text of a module to code in memory and on disk."""

import ctypes
import errno
import os
import stat
import sys
import threading
import time
import warnings
from collections import deque
from concurrent.futures import ThreadPoolExecutor
from weakref import WeakValueDictionary, ref

import llvmlite.binding as llvm
import pytest

from elman.backends.cpu.jit import cache, target
from elman.backends.cpu.jit import library as jit
from elman.backends.cpu.jit.once import Once
from elman.backends.cpu.jit.target import host
from elman.errors import ElmanError, OptionError

on_x86 = pytest.mark.skipif("x86" not in llvm.get_process_triple(), reason="needs an x86 processor")
kept = []


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """An empty cache."""
    monkeypatch.setenv("ELMAN_CACHE", str(tmp_path / "cache"))
    monkeypatch.delenv("ELMAN_DUMP", raising=False)
    cache._warn_once.cache_clear()
    forget(monkeypatch)
    return tmp_path / "cache"


@pytest.fixture
def compiled(monkeypatch):
    """The keys of what is really compiled, in order."""
    keys, compile_object = [], jit.compile_object

    def counted(text, key, target):
        keys.append(key)
        time.sleep(0.02)
        return compile_object(text, key, target)

    monkeypatch.setattr(jit, "compile_object", counted)
    return keys


def forget(monkeypatch):
    """Empty the cache in memory, as a new process would find it; what is loaded stays loaded."""
    kept.append(jit._libraries)
    monkeypatch.setattr(jit, "_libraries", WeakValueDictionary())


def returning(number):
    return f"define i64 @answer() {{ ret i64 {number} }}"


def answer(library):
    return ctypes.CFUNCTYPE(ctypes.c_int64)(library.address("answer"))()


def test_code_is_compiled_once_and_then_comes_from_disk(folder, compiled, monkeypatch):
    first = jit.load(returning(41), "module")
    assert jit.load(returning(41), "module") is first
    forget(monkeypatch)
    assert answer(jit.load(returning(41), "module")) == answer(first) == 41
    assert answer(jit.load(returning(42), "module")) == 42
    assert compiled == ["module", "module"]
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    assert sorted(path.suffix for path in folder.iterdir()) == [cache.SUFFIX, cache.SUFFIX]


def test_code_goes_with_the_last_that_holds_it(folder, monkeypatch):
    monkeypatch.setattr(jit, "_latest", deque(maxlen=1))
    library = jit.load(returning(43), "module")
    held, gone = library.function("answer", ctypes.CFUNCTYPE(ctypes.c_int64)), ref(library)
    del library
    assert held() == 43
    del held
    jit.load(returning(44), "module")  # the last one made is kept for whoever asks again
    assert gone() is None
    with pytest.raises(ElmanError, match="no address of 'question'"):
        jit.load(returning(43), "module").address("question")


def flip_last_byte(content):
    return content[:-1] + bytes([content[-1] ^ 1])


@pytest.mark.parametrize(
    "damage",
    [
        flip_last_byte,
        lambda content: content[:-9],
        lambda content: b"",
        lambda content: b"\xff\x00" * 50,
        lambda content: b"[]\n" + content,
        lambda content: content.replace(b"LLVM ", b"LLVM 1", 1),
    ],
    ids=["flipped", "cut", "empty", "garbage", "foreign", "other version"],
)
def test_a_damaged_or_stale_entry_is_rebuilt(folder, compiled, monkeypatch, damage):
    jit.load(returning(7), "module")
    [entry] = folder.iterdir()
    entry.write_bytes(damage(entry.read_bytes()))
    for compilations in (2, 2):
        forget(monkeypatch)
        assert answer(jit.load(returning(7), "module")) == 7
        assert len(compiled) == compilations


def writable_by_others(folder):
    folder.chmod(0o777)


def owned_by_another(folder):
    if os.getuid() != 0:
        pytest.skip("only root can give a folder away")
    os.chown(folder, 12345, 12345)


@pytest.mark.skipif(not hasattr(os, "getuid"), reason="needs owners and modes")
@pytest.mark.parametrize("spoil", [writable_by_others, owned_by_another])
def test_a_folder_that_others_can_write_to_is_not_trusted(folder, compiled, monkeypatch, spoil):
    jit.load(returning(7), "module")
    spoil(folder)
    forget(monkeypatch)
    with pytest.warns(RuntimeWarning, match="0700"):
        assert answer(jit.load(returning(7), "module")) == 7
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # one warning is enough
        assert answer(jit.load(returning(8), "module")) == 8
    assert len(compiled) == 3
    assert len(list(folder.iterdir())) == 1


def test_code_runs_without_a_place_to_keep_it(folder, monkeypatch, tmp_path):
    (tmp_path / "file").touch()
    monkeypatch.setenv("ELMAN_CACHE", str(tmp_path / "file" / "cache"))
    with pytest.warns(RuntimeWarning, match="ELMAN_CACHE"):
        assert answer(jit.load(returning(9), "module")) == 9


def refused(*args, **kwargs):
    raise OSError(errno.EROFS, os.strerror(errno.EROFS))


def no_room(folder, monkeypatch):
    """A new file is one on a disk that is full."""

    def mkstemp(**options):
        return os.open("/dev/full", os.O_WRONLY), str(folder / "new.part")

    monkeypatch.setattr(cache.tempfile, "mkstemp", mkstemp)


def no_replacing(folder, monkeypatch):
    monkeypatch.setattr(cache.os, "replace", refused)


def only_read(folder, monkeypatch):
    """As where the folder lies in an image: root can write anywhere, so the calls are refused."""
    monkeypatch.setattr(cache.os, "utime", refused)
    monkeypatch.setattr(cache.tempfile, "mkstemp", refused)


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="needs /dev/full")
@pytest.mark.parametrize("spoil", [no_room, no_replacing, only_read])
def test_what_cannot_be_kept_is_told_of_once(folder, compiled, monkeypatch, spoil):
    jit.load(returning(7), "module")
    spoil(folder, monkeypatch)
    with pytest.warns(RuntimeWarning, match="not kept") as warned:
        for number in (8, 9):
            assert answer(jit.load(returning(number), "module")) == number
    assert len(warned) == 1
    assert len(list(folder.iterdir())) == 1  # and nothing half written


def test_a_cache_that_is_only_read_serves_hits(folder, compiled, monkeypatch):
    jit.load(returning(7), "module")
    only_read(folder, monkeypatch)
    forget(monkeypatch)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert answer(jit.load(returning(7), "module")) == 7
    assert compiled == ["module"]


@pytest.mark.skipif(not hasattr(os, "getuid") or os.getuid() != 0, reason="needs a folder of root")
def test_a_cache_of_roots_serves_everyone(folder, compiled, monkeypatch):
    jit.load(returning(7), "module")
    monkeypatch.setattr(cache.os, "getuid", lambda: 1000)
    forget(monkeypatch)
    assert answer(jit.load(returning(7), "module")) == 7
    assert compiled == ["module"]


@pytest.mark.parametrize("name", ["PASSES", "MACHINE"])
def test_other_compile_options_compile_anew(folder, compiled, monkeypatch, name):
    jit.load(returning(7), "module")
    forget(monkeypatch)
    options = {"PASSES": {"speed_level": 2}, "MACHINE": {**jit.MACHINE, "opt": 1}}
    monkeypatch.setattr(jit, name, options[name])
    assert answer(jit.load(returning(7), "module")) == 7
    assert compiled == ["module"] * 2 and len(list(folder.iterdir())) == 2


@pytest.mark.skipif(sys.platform != "linux", reason="XDG is for Linux")
def test_the_cache_lies_where_the_user_keeps_caches(folder, monkeypatch, tmp_path):
    monkeypatch.delenv("ELMAN_CACHE")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "xdg"))
    jit.load(returning(10), "module")
    assert len(list((tmp_path / "xdg" / "elman").iterdir())) == 1


def test_the_least_recently_used_entries_are_removed(folder, compiled, monkeypatch):
    for key in ("a", "b", "c"):
        jit.load(returning(7), key)
    for path in folder.iterdir():
        age = 10_000 + (b'"key": "b"' not in path.read_bytes())  # b is the oldest
        os.utime(path, (age, age))
    forget(monkeypatch)
    jit.load(returning(7), "b")  # used again
    size = max(path.stat().st_size for path in folder.iterdir())
    monkeypatch.setattr(cache, "LIMIT", 2 * size + size // 2)
    (folder / "killed.part").touch()
    os.utime(folder / "killed.part", (10_000, 10_000))
    (folder / "foreign").touch()
    jit.load(returning(7), "d")
    assert sorted(path.suffix for path in folder.iterdir()) == ["", cache.SUFFIX, cache.SUFFIX]
    forget(monkeypatch)
    compiled.clear()
    for key in ("b", "d"):
        jit.load(returning(7), key)
    assert compiled == []


def test_what_is_not_there_is_an_error_and_not_the_end_of_the_process(folder):
    library = jit.load(returning(1), "here")
    with pytest.raises(ElmanError, match=r"here: no address of 'elsewhere'"):
        library.address("elsewhere")
    with pytest.raises(ElmanError, match=r"caller: calls 'printf'.*address as an argument"):
        jit.load(
            "declare void @printf()\n define void @f() { call void @printf() ret void }", "caller"
        )
    with pytest.raises(ElmanError, match=r"broken: LLVM does not accept"):
        jit.load("define void @f() { ret i64 }", "broken")


def test_two_threads_compile_once(folder, compiled):
    start, found = threading.Barrier(4), []

    def work():
        start.wait()
        found.append(jit.load(returning(5), "module"))

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(set(map(id, found))) == 1 and len(found) == 4
    assert compiled == ["module"]


def test_code_comes_and_goes_under_threads(folder, monkeypatch):
    monkeypatch.setattr(jit, "_latest", deque(maxlen=1))

    def work(seed):
        numbers = [(seed * 7 + i) % 11 for i in range(200)]
        return [answer(jit.load(returning(number), "module")) - number for number in numbers]

    with ThreadPoolExecutor(4) as pool:
        assert all(wrong == [0] * 200 for wrong in pool.map(work, range(4)))


def test_what_is_made_once_is_made_once():
    made = []

    @Once
    def make(number):
        made.append(number)
        time.sleep(0.02)
        return object()

    found = []
    threads = [threading.Thread(target=lambda: found.append(make(1))) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert made == [1] and len(set(found)) == 1
    assert make(2) is not found[0] and make(1) is found[0]


CALLS = """
declare void @llvm.memset.p0.i64(ptr, i8, i64, i1)
declare void @llvm.memcpy.p0.p0.i64(ptr, ptr, i64, i1)
declare float @llvm.fma.f32(float, float, float)
define void @fill_and_copy(ptr %to, ptr %from, i64 %n) {
  call void @llvm.memset.p0.i64(ptr %from, i8 7, i64 %n, i1 false)
  call void @llvm.memcpy.p0.p0.i64(ptr %to, ptr %from, i64 %n, i1 false)
  ret void
}
define float @fma(float %a, float %b, float %c) {
  %d = call float @llvm.fma.f32(float %a, float %b, float %c)
  ret float %d
}
"""


@pytest.mark.parametrize("isa", ["", "plain"])
def test_calls_that_llvm_makes_of_its_own_are_found(folder, monkeypatch, isa):
    monkeypatch.setenv("ELMAN_ISA", isa)  # without FMA instructions it is a call to fmaf
    library = jit.load(CALLS, "calls")
    to, source = ctypes.create_string_buffer(5000), ctypes.create_string_buffer(5000)
    pointers = [ctypes.c_void_p] * 2
    run = ctypes.CFUNCTYPE(None, *pointers, ctypes.c_int64)(library.address("fill_and_copy"))
    run(ctypes.addressof(to), ctypes.addressof(source), 4999)
    assert to.raw == b"\x07" * 4999 + b"\x00"
    fma = ctypes.CFUNCTYPE(*[ctypes.c_float] * 4)(library.address("fma"))
    e = 2.0**-12
    assert fma(1 + e, 1 - e, -1.0) == -e * e  # rounded once


ADD = """
define void @add(ptr %a, ptr %b) {
  %x = load <16 x float>, ptr %a, align 4
  %y = load <16 x float>, ptr %b, align 4
  %z = fadd <16 x float> %x, %y
  store <16 x float> %z, ptr %a, align 4
  ret void
}
"""


@on_x86
@pytest.mark.parametrize(
    ("isa", "lanes", "registers", "uses", "not_uses"),
    [
        ("avx512", (16, 8), 32, "zmm", "none"),
        ("avx2", (8, 4), 16, "ymm", "zmm"),
        ("plain", (4, 2), 16, "xmm", "ymm"),
    ],
)
def test_isa_narrows_the_code(folder, monkeypatch, tmp_path, isa, lanes, registers, uses, not_uses):
    if {"avx512": "avx512f", "avx2": "avx2", "plain": "sse2"}[isa] not in host().flags:
        pytest.skip(f"this processor has no {isa}")
    monkeypatch.setenv("ELMAN_ISA", isa)
    monkeypatch.setenv("ELMAN_DUMP", str(tmp_path / "dump"))
    assert (host().lanes("float"), host().lanes("double")) == lanes
    assert host().registers == registers
    a, b = (ctypes.c_float * 16)(*range(16)), (ctypes.c_float * 16)(*[0.5] * 16)
    address = jit.load(ADD.replace("%z =", f"; {isa}\n%z ="), "sum of a/b").address("add")
    ctypes.CFUNCTYPE(None, *[ctypes.c_void_p] * 2)(address)(
        ctypes.addressof(a), ctypes.addressof(b)
    )
    assert list(a) == [i + 0.5 for i in range(16)]
    names = sorted(path.name for path in (tmp_path / "dump").iterdir())
    assert [name[:12] for name in names] == ["sum_of_a_b-" + names[0][11]] * 3
    assert [name.split(".", 1)[1] for name in names] == ["ll", "opt.ll", "s"]
    assembly = (tmp_path / "dump" / names[2]).read_text()
    assert uses in assembly and not_uses not in assembly


def test_an_unknown_isa_lists_the_valid_ones(monkeypatch):
    monkeypatch.setenv("ELMAN_ISA", "avx")
    with pytest.raises(OptionError, match="avx512, avx2, plain"):
        host()


@on_x86
def test_an_isa_that_the_processor_lacks_is_refused(monkeypatch):
    features = {**llvm.get_host_cpu_features(), "avx512f": False, "avx2": False}
    monkeypatch.setattr(llvm, "get_host_cpu_features", lambda: features)
    target._host.cache_clear()
    try:
        monkeypatch.setenv("ELMAN_ISA", "avx2")
        with pytest.raises(OptionError, match="does not have it; it has plain"):
            host()
    finally:
        target._host.cache_clear()


def test_cache_sizes_are_those_of_a_processor():
    assert 8 * 1024 <= host().l1d < host().l2 <= 64 * 1024 * 1024
