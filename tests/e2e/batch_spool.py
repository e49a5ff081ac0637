"""`fermata batch` over rows that can be had once only: queries of SQLite and DuckDB, standard input; and results on standard output."""
import ctypes
import gzip
import io
import json
import os
import sqlite3
import subprocess
import sys
import tarfile

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
from batch_job import NAME_MODEL, Job, Rows  # noqa: E402
from tap import FERMATA, ROOT, Skip, contains, fermata, run, test  # noqa: E402

MODEL = """backend: identity
max_batch_size: 16
settings: {inputs: "x:FP32[-1,2], n:INT64[-1], name:BYTES[-1,1]"}
"""
SQL = "SELECT id, name, v, n, b, r FROM t ORDER BY id"
COLUMNS = "columns: {x: v, n: n, name: name}, id: id"


def sqlite_make(path, count, extra=()):
    connection = sqlite3.connect(path)
    connection.execute("CREATE TABLE t(id INTEGER PRIMARY KEY, name, v, n, b, r)")
    rows = [(i, "n%d" % i, "[%d, 0.5]" % i, i, b"\x00\xff%d" % i, i / 4) for i in range(count)]
    connection.executemany("INSERT INTO t VALUES(?,?,?,?,?,?)", rows + list(extra))
    connection.commit()
    connection.close()


def duckdb_make(path, count):
    place = os.environ.get("FERMATA_DUCKDB") or os.path.join(ROOT, ".deps", "duckdb", "lib", "libduckdb.so")
    if not os.path.exists(place):
        raise Skip("there is no DuckDB")
    library = ctypes.CDLL(place)
    database, connection, result = ctypes.c_void_p(), ctypes.c_void_p(), ctypes.create_string_buffer(256)
    assert library.duckdb_open(str(path).encode(), ctypes.byref(database)) == 0
    assert library.duckdb_connect(database, ctypes.byref(connection)) == 0
    sql = "CREATE TABLE t AS SELECT i AS id, 'n'||i AS name, [i, 0.5]::FLOAT[] AS v, i AS n, 'ab'::BLOB AS b, i / 4 AS r FROM range(%d) s(i)" % count
    assert library.duckdb_query(connection, sql.encode(), result) == 0
    library.duckdb_destroy_result(result)
    library.duckdb_disconnect(ctypes.byref(connection))
    library.duckdb_close(ctypes.byref(database))


class Query(Job):
    def __init__(self, sql=SQL, given=COLUMNS, database="t.db", count=300, extra=(), output="{directory: out, passthrough: [r]}", model=MODEL):
        super().__init__(count=0, model=model, keys="shard_rows: 40\n", input="{query: %s, database: %s, %s}" % (json.dumps(sql), database, given), output=output)
        self.database = self.path / database
        if database.endswith(".duckdb"):
            duckdb_make(self.database, count)
        elif not self.database.exists():
            sqlite_make(self.database, count, extra)

    def results(self):
        return {line["id"]: line for line in self.lines()}


class Input(Job):
    """Rows on standard input."""

    def __init__(self, given="format: jsonl, columns: {name: name}, id: id", output="{directory: out}", model=NAME_MODEL):
        super().__init__(count=0, model=model, keys="shard_rows: 40\n", input='{files: "-", %s}' % given, output=output)


def stdin_rows(count):
    return "".join('{"id": "i%d", "name": "n%d"}\n' % (i, i) for i in range(count)).encode()


def leftovers(job):
    """What is in .fermata/ besides the lock."""
    folder = job.out / ".fermata"
    return sorted(set(os.listdir(folder)) - {"lock"}) if folder.exists() else []


@test
def rows_of_a_query_of_sqlite():
    with Query() as job:
        out, _ = fermata("batch", job.file, "--limit", "100")
        contains(out, "complete: 100 rows in")
        os.remove(job.database)  # the rest is there
        contains(fermata("batch", job.file, "--resume", "--workers", "2")[0], "complete: 300 rows in = 300 results + 0 dead letters")
        results = job.results()
        assert len(results) == len(job.lines()) == 300
        for i in range(300):
            assert results[str(i)] == {"id": str(i), "r": i / 4, "out_x": [i, 0.5], "out_n": i, "out_name": "n%d" % i}, results[str(i)]
        assert leftovers(job)[-1] == "spool" and os.listdir(job.out / ".fermata" / "spool") == ["query"]
        contains(fermata("job", "verify", job.out)[0], "proven: 300 rows in")
        facts = json.loads((job.out / "_manifest.json").read_text())["facts"]
        assert len(facts["input.rows"]) == 16 and facts["input.format"].startswith("query of sqlite"), facts


@test
def values_that_do_not_fit_are_dead_letters():
    extra = [(1000, None, "[1,2]", 1, None, None), (1001, "a", "[1]", 1, None, None), (1002, "a", "[1,2]", 1.5, None, None), (1003, 7, "[1,2]", 1, None, None),
             (1004, "a", b"\x00\x00\x80?\x00\x00\x00@", 1, None, "z"), (1005, "a", b"\x00", 1, None, None), (1006, b"\xffab", "[3,4]", 2.0, None, None)]
    with Query(extra=extra, count=5) as job:
        fermata("batch", job.file, "--quiet", code=4)
        letters = {line["id"]: line["message"] for line in job.lines("errors")}
        words = {"1000": "row 5: column 'name': it is NULL", "1001": "has 1 entries instead of 2", "1002": "'1.5' is no INT64", "1003": "column 'name': it is a number",
                 "1005": "column 'v': its 1 bytes are not a row of the input, which has 8"}
        assert set(letters) == set(words), letters
        for key, word in words.items():
            contains(letters[key], word)
        results = job.results()
        assert results["1004"]["out_x"] == [1, 2] and results["1004"]["r"] == "z" and results["1006"]["out_name"] == "\ufffdab", results
        assert results["1006"]["out_n"] == 2
        again = job.path / "again"
        os.remove(job.database)
        fermata("batch", job.file, "--retry-dead-letters", job.out, "--output", again, "--quiet", code=4)
        job.out = again
        assert {line["id"] for line in job.lines("errors")} == set(words), "they are read from the rows that were taken down"
        fermata("batch", job.file, "--output", again, "--resume", "--quiet", code=4)


@test
def rows_of_a_query_of_duckdb():
    with Query(database="t.duckdb", sql="SELECT * FROM t ORDER BY id DESC -- the last first\n;", count=25000) as job:
        fermata("batch", job.file, "--quiet", "--limit", "10050")
        os.remove(job.database)
        fermata("batch", job.file, "--quiet", "--resume")
        lines = job.lines()
        assert len(lines) == 25000 and lines[0]["id"] == "24999" and len({line["id"] for line in lines}) == 25000
        assert job.results()["7"] == {"id": "7", "r": 1.75, "out_x": [7, 0.5], "out_n": 7, "out_name": "n7"}


@test
def what_is_wrong_with_a_query_is_said_in_the_words_of_the_engine_and_leaves_nothing():
    table = [("SELECT * FROM nope", "t.db: no such table: nope", "Table with name nope does not exist"),
             ("SELEC", 'syntax error', "Parser Error"),
             ("SELECT id FROM t; DROP TABLE t", "one statement that gives rows and changes nothing", "Parser Error"),
             ("DELETE FROM t", "one statement that gives rows and changes nothing", "Parser Error"),
             ("INSERT INTO t(id) VALUES(7000) RETURNING id, name, v, n, r", "one statement that gives rows and changes nothing", "Parser Error"),
             ("SELECT id, name, v, n, id FROM t", "two columns of the name 'id'", "there is no column 'r'"),
             ("SELECT id, name, v, n, r FROM t WHERE id > :least", "the query has a parameter, ':least', and nothing gives it a value", "Parser Error"),
             ("SELECT id, name, v, n, r FROM t WHERE id > ?", "the query has a parameter, '?', and nothing gives it a value", "parameter"),
             ("SELECT id, name, v, n, r AS s FROM t", "there is no column 'r'; did you mean 'v'?", "there is no column 'r'"),
             ("SELECT id, name, name AS v, n, r FROM t", "must hold a JSON array", "column 'v'"),
             ("SELECT * FROM t WHERE id < 0", "the input has no rows", "the input has no rows")]
    for database, at in (("t.db", 1), ("t.duckdb", 2)):
        for entry in table:
            with Query(sql=entry[0], database=database, count=20) as job:
                _, err = fermata("batch", job.file, code=3)
                contains(err, entry[at])
                if "no rows" not in entry[at]:
                    assert leftovers(job) == [], leftovers(job)
                    assert list(job.out.glob("part-*")) == []
                if database == "t.db":
                    assert sqlite3.connect(job.database).execute("SELECT count(*) FROM t").fetchone() == (20,)
    for database, text, words in (("t.db", None, "t.db' does not exist"), ("t.db", b"no database at all" * 100, "file is not a database"), ("t.duckdb", None, "t.duckdb' does not exist")):
        with Query(database=database, count=3) as job:
            os.remove(job.database)
            if text is not None:
                job.database.write_bytes(text)
            contains(fermata("batch", job.file, code=3)[1], "input.query: ", words)


@test
def a_database_with_a_log_where_nothing_may_be_written():
    if os.getuid() != 0:
        raise Skip("needs root, to become somebody who may not write")
    with Query(sql="SELECT id, name, v, n, b, r FROM t ORDER BY id") as job:
        folder = job.path / "database"
        folder.mkdir()
        os.rename(job.database, folder / "t.db")
        job.file.write_text(job.file.read_text().replace("database: t.db", "database: database/t.db"))
        for path, mode in ((job.path, 0o777), (folder, 0o755)):
            os.chmod(path, mode)

        def of_nobody(out):
            done = subprocess.run([FERMATA, "batch", job.file, "--quiet", "--output", job.path / out], capture_output=True, user=65534, group=65534)
            return done.returncode, done.stderr.decode()

        connection = sqlite3.connect(folder / "t.db")
        connection.execute("PRAGMA journal_mode=WAL")
        connection.execute("UPDATE t SET r = 7")
        connection.commit()
        before = sorted(os.listdir(folder))
        assert before == ["t.db", "t.db-shm", "t.db-wal"], before
        for name in before:
            os.chmod(folder / name, 0o644)
        assert of_nobody("live")[0] == 0, "there is an index, which can be read"
        job.out = job.path / "live"
        assert all(line["r"] == 7 for line in job.lines()) and len(job.lines()) == 300
        log = (folder / "t.db-wal").read_bytes()
        connection.close()
        assert os.listdir(folder) == ["t.db"]
        assert of_nobody("quiet")[0] == 0 and os.listdir(folder) == ["t.db"]
        job.out = job.path / "quiet"
        assert all(line["r"] == 7 for line in job.lines()) and len(job.lines()) == 300
        (folder / "t.db-wal").write_bytes(log)  # left by somebody who was killed: what is in it may be missing elsewhere
        os.symlink(folder / "t.db", job.path / "link.db")
        text = job.file.read_text()
        for given in (text, text.replace("database: database/t.db", "database: link.db")):
            job.file.write_text(given)
            code, err = of_nobody("log")
            assert code == 3, (code, err)
            contains(err, "input.query: ", ".db: unable to open database file")
        os.remove(folder / "t.db-wal")
        assert of_nobody("linked")[0] == 0


@test
def a_database_in_the_middle_of_a_transaction_that_was_cut_short():
    """Its journal says what has to be taken back first, which takes a write: half of the change is not what there is."""
    with Query(sql="SELECT id, name, v, n, b, r FROM t ORDER BY id") as job:
        connection = sqlite3.connect(job.database)
        connection.executescript("PRAGMA journal_mode = DELETE; CREATE TABLE large (x); PRAGMA cache_size = 2;")
        connection.execute("BEGIN")
        connection.execute("UPDATE t SET r = 7")
        connection.execute("INSERT INTO large WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 2000) SELECT hex(randomblob(200)) FROM n")
        torn = {name: (job.path / name).read_bytes() for name in ("t.db", "t.db-journal")}
        connection.rollback()
        connection.close()
        assert len(torn["t.db-journal"]) > 1000 and torn["t.db"] != (job.path / "t.db").read_bytes()
        for name, data in torn.items():
            (job.path / name).write_bytes(data)
        contains(fermata("batch", job.file, code=3)[1], "input.query: ", "t.db: attempt to write a readonly database")
        connection = sqlite3.connect(job.database)  # whoever may write mends it
        assert connection.execute("SELECT count(*) FROM t WHERE r = 7").fetchone()[0] < 2
        connection.close()
        fermata("batch", job.file, "--quiet")


@test
def job_files_of_queries_that_cannot_be():
    table = [("{query: SELECT 1}", "'query' needs 'database'"), ("{query: ' ; ', database: a.db}", "'query' is empty"), ("{query: SELECT 1, database: a.db, files: x}", "exactly one of"),
             ("{files: x.csv, engine: duckdb}", "'engine' means something with 'query' only"), ("{query: SELECT 1, database: a.db, engine: postgres}", "postgres"),
             ("{query: SELECT 1, database: a.db, format: csv}", "'format' is of files"), ("{query: SELECT 1, database: a.db, base: x}", "'base' is of files"),
             ("{files: '-'}", "say their 'format'"), ("{files: '-', format: parquet}", "which may be csv, tsv, jsonl or openai_batch"), ("{files: '-', columns: {name: a}}", "add 'format'"),
             ("{files: 'gs://example.com/*.jpg'}", "is an address that cannot be read"), ("{files: ['a', 'hdfs://example.com/x']}", "is an address that cannot be read"),
             ("{list: 'az://example.com/y'}", "is an address, and 'list' is a path"), ("{query: SELECT 1, database: 's3://example.com/b.db'}", "is an address, and 'database' is a path")]
    for given, words in table:
        with Job(count=1, input=given) as job:
            contains(fermata("batch", job.file, code=3)[1], words)
            assert not job.out.exists()
    with Job(count=1, output="{directory: 's3://example.com/out'}") as job:
        contains(fermata("batch", job.file, code=3)[1], "is an address, and 'directory' is a path")
    with Job(count=1, input="{list: '-'}") as job:
        contains(fermata("batch", job.file, code=3, stdin=b"in/a\ngs://example.com/c\n")[1], "the list of inputs has 'gs://example.com/c', an address that cannot be read")


@test
def another_query_or_other_rows_do_not_go_on():
    with Query(count=50) as job:
        fermata("batch", job.file, "--quiet", "--limit", "10")
        text = job.file.read_text()
        job.file.write_text(text.replace("FROM t", "FROM t WHERE id > 5"))
        contains(fermata("batch", job.file, "--resume", code=3)[1], "input.format was 'query of sqlite")
        job.file.write_text(text)
        rows = job.out / ".fermata" / "spool" / "query"
        whole = rows.read_bytes()
        rows.write_bytes(whole[:-1] + b"x")
        contains(fermata("batch", job.file, "--resume", code=3)[1], "the rows in '", "are not those the job was begun with")
        rows.unlink()
        contains(fermata("batch", job.file, "--resume", code=3)[1], "are not those the job was begun with")
        assert not (job.out / ".fermata" / "spool.new").exists()
        rows.write_bytes(whole)
        fermata("batch", job.file, "--resume", "--quiet")
        # A query that fails leaves the former job as it was, also with --restart; one that does not begins anew.
        job.file.write_text(text.replace("FROM t", "FROM nope"))
        fermata("batch", job.file, "--restart", "--quiet", code=3)
        assert len(job.lines()) == 50 and rows.read_bytes() == whole
        job.file.write_text(text.replace("FROM t", "FROM t WHERE id >= 40"))
        fermata("batch", job.file, "--restart", "--quiet")
        assert sorted(job.results()) == ["%d" % i for i in range(40, 50)]


@test
def a_killed_job_goes_on_with_the_rows_that_it_has():
    with Input() as job:
        done = subprocess.run([FERMATA, "batch", job.file, "--quiet", "--fault", "listed"], input=stdin_rows(20), capture_output=True)
        assert done.returncode == -9, done
        fermata("batch", job.file, "--resume", "--quiet")
        assert len(job.lines()) == 20
    for point in ("listed", "created", "claimed", "discarding"):
        with Query(count=60) as job:
            if point == "discarding":
                fermata("batch", job.file, "--quiet")
            done = subprocess.run([FERMATA, "batch", job.file, "--quiet", "--restart", "--fault", point], capture_output=True)
            assert done.returncode == -9, (point, done)
            fermata("batch", job.file, "--resume", "--quiet")
            assert len(job.lines()) == len(job.results()) == 60, point
            assert "spool.new" not in leftovers(job), point


@test
def preview_and_dry_run_leave_nothing():
    before = set(os.listdir("/tmp"))
    with Query(count=500) as job:
        contains(fermata("batch", job.file, "--preview", "2")[0], "2 rows, 0 of them dead letters; nothing was written", '"values":["n1"]')
        contains(fermata("batch", job.file, "--dry-run")[0], "500 found, 500 in the job")
        assert not job.out.exists()
    assert not [name for name in set(os.listdir("/tmp")) - before if name.startswith("fermata-rows-")]


@test
def rows_on_standard_input():
    with Input() as job:
        fermata("batch", job.file, "--quiet", "--limit", "30", stdin=stdin_rows(130))
        fermata("batch", job.file, "--quiet", "--resume")
        assert [line["id"] for line in sorted(job.lines(), key=lambda line: int(line["id"][1:]))] == ["i%d" % i for i in range(130)]
        contains(fermata("batch", job.file, "--restart", stdin=b"", code=3)[1], "the input has no rows: standard input")
    with Input(given="format: csv, columns: {name: name}") as job:
        fermata("batch", job.file, "--quiet", stdin=b'name\na\n"b\nc"\n')
        assert [(line["id"], line["out_name"]) for line in job.lines()] == [("stdin:0", "a"), ("stdin:1", "b\nc")]
        contains(fermata("batch", job.file, "--preview", "1", stdin=b"name\nz\n")[0], '"values":["z"]')
    with Input() as job:
        contains(fermata("batch", job.file, stdin=b'{"id": 1, "other": 2}\n', code=3)[1], "the column 'name' is missing")
        assert leftovers(job) == []
        err = fermata("batch", job.file, stdin=b'{"id": 1, "other": 2}\n', code=3)[1]
        contains(err, "job.yaml: standard input: none of the first 1 rows fits input.columns; the first of them: line 1: ")
        for option in ("--dry-run", "--preview=1"):
            err = fermata("batch", job.file, option, stdin=b"oops\n", code=3)[1]
            contains(err, "job.yaml: standard input: none of the first 1 rows")
    with Input(given="format: csv, columns: {name: name}") as job:
        err = fermata("batch", job.file, stdin=b'name\na\n"b\n', code=3)[1]
        assert "standard input: " in err and "spool" not in err, err
    with Query(sql="SELECT id, id AS name, v, n, b, r FROM t", count=3) as job:
        contains(fermata("batch", job.file, code=3)[1], "job.yaml: the rows of the query: none of the first 3 rows fits")


@test
def standard_input_without_rows_begins_nothing():
    with Input() as job:
        contains(fermata("batch", job.file, "--quiet", code=3)[1], "the input has no rows: standard input")
        fermata("batch", job.file, "--quiet", "--resume", stdin=stdin_rows(10))
        assert sorted(line["id"] for line in job.lines()) == sorted("i%d" % i for i in range(10))


@test
def rows_that_a_killed_restart_has_taken_down_are_not_lost():
    with Input() as job:
        fermata("batch", job.file, "--quiet", stdin=stdin_rows(100))
        fermata("batch", job.file, "--quiet", "--restart", "--fault", "discarding", stdin=stdin_rows(7), code=-9)
        fermata("batch", job.file, "--quiet", "--resume")
        assert sorted(line["id"] for line in job.lines()) == sorted("i%d" % i for i in range(7))
        assert job.manifest()["rows_in"] == 7


@test
def results_are_written_to_directories():
    with Input() as job:
        for address in ("s3://example.com/out", "gs://example.com/out", "https://example.com/out"):
            contains(fermata("batch", job.file, "--output", address, code=2)[1], "is an address, and results are written to a directory")


@test
def results_on_standard_output():
    with Input() as job:
        out, err = fermata("batch", job.file, "--stdout", "--workers", "3", stdin=stdin_rows(1000))
        assert [json.loads(line) for line in out.splitlines()] == [{"id": "i%d" % i, "out_name": "n%d" % i} for i in range(1000)]
        contains(err, "complete: 1000 rows in")
        again, err = fermata("batch", job.file, "--stdout", "--quiet", "--resume")
        assert again == out and err == ""
        read, write = os.pipe()
        os.close(read)
        done = subprocess.run([FERMATA, "batch", job.file, "--stdout", "--resume", "--quiet"], stdout=write, stderr=subprocess.PIPE)
        os.close(write)
        assert done.returncode == 141 and done.stderr == b"", done
        with open("/dev/full", "wb") as full:
            done = subprocess.run([FERMATA, "batch", job.file, "--stdout", "--resume", "--quiet"], stdout=full, stderr=subprocess.PIPE)
        assert done.returncode == 6, done
        contains(done.stderr.decode(), "cannot write the results to standard output; they are all in")
        for other in ("--json", "--dry-run", "--preview=1"):
            assert fermata("batch", job.file, "--stdout", other, code=2)[0] == ""
        text = job.file.read_text()
        job.file.write_text(text.replace("directory: out", "directory: out, format: csv"))
        contains(fermata("batch", job.file, "--stdout", code=2)[1], "--stdout writes lines of JSON, and the job's output.format is csv")
    with Input() as job:
        out, _ = fermata("batch", job.file, "--stdout", "--quiet", stdin=stdin_rows(3) + b"{}\n", code=4)
        assert len(out.splitlines()) == 3 and len(job.lines("errors")) == 1
    with Input(output="{directory: out}") as job:
        job.file.write_text(job.file.read_text() + "errors: {max_rows: 0}\n")
        out, _ = fermata("batch", job.file, "--stdout", "--quiet", stdin=stdin_rows(3) + b"{}\n", code=7)
        assert out == "", "a job that is not complete writes none"


def parts(job, ending):
    return sorted(path for path in job.out.glob("part-*") if path.name.endswith(ending))


@test
def results_compressed_with_gzip():
    rows = "".join('%s,"a, ""%d""","[%d, 2]"\n' % ("u%d" % i, i, i) for i in range(200))
    model = 'backend: identity\nmax_batch_size: 4\nsettings: {inputs: "name:BYTES[-1,1], v:FP32[-1,2]"}\n'
    for sink, ending in (("csv", ".csv.gz"), ("jsonl", ".jsonl.gz"), ("openai_batch", ".openai.jsonl.gz")):
        with Rows({"1.csv": "user,name,v\n" + rows}, given="columns: {name: name, v: v}, id: user", model=model, output="{directory: out, format: %s, compression: gzip}" % sink) as job:
            plain = job.path / "plain"
            fermata("batch", job.file, "--quiet", "--limit", "50")
            fermata("batch", job.file, "--quiet", "--resume")
            (job.path / "plain.yaml").write_text(job.file.read_text().replace(", compression: gzip", "").replace("directory: out", "directory: plain"))
            fermata("batch", job.path / "plain.yaml", "--quiet", "--limit", "50")
            fermata("batch", job.path / "plain.yaml", "--quiet", "--resume")
            packed = parts(job, ending)
            assert packed and len(packed) == len(list(job.out.glob("part-*"))), os.listdir(job.out)
            texts = [gzip.decompress(path.read_bytes()) for path in packed]
            assert b"".join(texts) == b"".join(path.read_bytes() for path in sorted(plain.glob("part-*"))), sink
            contains(fermata("job", "verify", job.out)[0], "proven: 200 rows in, 200 results")
            if sink != "csv":
                out, _ = fermata("batch", job.file, "--resume", "--stdout", "--quiet")
                assert [json.loads(line)["id"] for line in out.splitlines()] == ["u%d" % i for i in range(200)]
                contains("".join(fermata("batch", job.path / "plain.yaml", "--resume", "--output", job.out, code=3)), "output.format was '%s, compression gzip'" % sink)
            damaged = bytearray(packed[0].read_bytes())
            damaged[len(damaged) // 2] ^= 1
            packed[0].write_bytes(damaged)
            contains("".join(fermata("job", "verify", job.out, code=8)), packed[0].name)
    with Job(count=0, output="{directory: out, compression: gzip}") as job:
        (job.path / "in" / "text").write_text("t")
        with open(os.path.join(os.fsencode(job.path / "in"), b"\xff"), "w") as file:
            file.write("u")
        fermata("batch", job.file, "--quiet", code=4)
        contains(job.lines("errors")[0]["message"], "the id is not UTF-8", "jsonl without compression can hold it")


@test
def blocks_of_results_are_compressed_each_by_itself():
    def text(bad):
        return "user,name\n" + "".join("%s,%s\n" % ("u%d" % i, "" if i in bad else "some words of row %d " % i * 20) for i in range(2000))

    for sink, ending in (("csv", ".csv.gz"), ("jsonl", ".jsonl.gz"), ("openai_batch", ".openai.jsonl.gz")):
        given, output = "columns: {x: name}, id: user", "{directory: %s, format: " + sink + "%s}"
        model = 'backend: identity\nmax_batch_size: 64\nsettings: {inputs: "x:BYTES[-1,1]"}\n'
        with Rows({"1.csv": text(())}, given=given, model=model, output=output % ("out", ", compression: gzip"), keys="shard_rows: 500\n") as job:
            (job.path / "plain.yaml").write_text(job.file.read_text().replace(output % ("out", ", compression: gzip"), output % ("plain", "")))
            fermata("batch", job.file, "--quiet")
            fermata("batch", job.path / "plain.yaml", "--quiet")
            packed = parts(job, ending)
            assert len(packed) == 4, packed
            for path in packed:
                whole = path.read_bytes()
                assert gzip.decompress(whole) == (job.path / "plain" / path.name[:-3]).read_bytes()
                assert whole.count(b"\x1f\x8b\x08\x00\x00") >= 500 // 64, "it is not several members"
            contains(fermata("job", "verify", job.out)[0], "proven: 2000 rows in, 2000 results")
            if sink != "csv":
                out, _ = fermata("batch", job.file, "--resume", "--stdout", "--quiet")
                assert [json.loads(line)["id"] for line in out.splitlines()] == ["u%d" % i for i in range(2000)]
            second = job.path / "second"
            (job.path / "second.yaml").write_text("name: second\npipeline: model\ninput: {files: 'out/part-*', format: %s, columns: {x: id}, id: id}\noutput: second\nshard_rows: 70\n"
                                                  % ("csv" if sink == "csv" else "jsonl"))
            fermata("batch", job.path / "second.yaml", "--quiet")
            job.out = second
            assert sorted(line["out_x"] for line in job.lines()) == sorted("u%d" % i for i in range(2000))
        # A dead letter among them: they go together with their neighbours.
        rows = text(()).replace("u700,", "u700,x,").replace("u1300,", "u1300,x,")
        with Rows({"1.csv": rows}, given=given, model=model, output=output % ("out", ", compression: gzip")) as job:
            fermata("batch", job.file, "--quiet", code=4)
            lines = b"".join(gzip.decompress(path.read_bytes()) for path in parts(job, ending)).decode()
            assert [i for i in range(2000) if "u%d%s" % (i, "," if sink == "csv" else '"') not in lines] == [700, 1300], sink
            contains(fermata("job", "verify", job.out, code=4)[0], "proven with dead letters: 2000 rows in, 1998 results")


@test
def numbers_that_json_has_none_for_come_back():
    for sink in ("jsonl", "csv"):
        with Rows({"1.csv": 'user,x,v\na,.5,"[1, ""nan"", ""-inf""]"\nb,-1.,"[""Infinity"", 2.5, 3]"\nc,nan,"[1, 2, 3]"\n'}, given="columns: {x: x, v: v}, id: user",
                  model='backend: identity\nmax_batch_size: 4\nsettings: {inputs: "x:FP32[-1], v:FP64[-1,3]"}\n', output="{directory: out, format: %s}" % sink) as job:
            fermata("batch", job.file, "--quiet")
            second = job.path / "second"
            text = job.file.read_text().replace("'in/*.csv', columns: {x: x, v: v}, id: user", "'out/part-*', format: %s, columns: {x: out_x, v: out_v}, id: id" % sink)
            (job.path / "second.yaml").write_text(text.replace("format: %s}" % sink + "\n", "format: jsonl}\n").replace("directory: out", "directory: second"))
            fermata("batch", job.path / "second.yaml", "--quiet")
            job.out = second
            found = {line["id"]: (line["out_x"], line["out_v"]) for line in job.lines()}
            assert found == {"a": (0.5, [1, "NaN", "-Infinity"]), "b": (-1, ["Infinity", 2.5, 3]), "c": ("NaN", [1, 2, 3])}, found


@test
def archives_that_stand_one_behind_the_other():
    def archive(names):
        made = io.BytesIO()
        with tarfile.open(fileobj=made, mode="w") as tar:
            for name in names:
                info = tarfile.TarInfo(name + ".txt")
                info.size = len(name)
                tar.addfile(info, io.BytesIO(name.encode()))
        return made.getvalue()

    given = "columns: {name: txt}, id: __key__"
    with Rows({"a.tar": archive(["a", "b"]) + archive(["c"]) + archive([]) + archive(["d"])}, given=given, model=NAME_MODEL, keys="shard_rows: 1\n") as job:
        fermata("batch", job.file, "--quiet")
        assert sorted(line["out_name"] for line in job.lines()) == ["a", "b", "c", "d"]
    with Rows({"a.tar": archive(["a"]) + b"x" * 1024}, given=given, model=NAME_MODEL) as job:
        contains(fermata("batch", job.file, code=3)[1], "byte 10240: what is there is no header of a tar archive; it lies behind the archive's end mark, where zeros may be and further archives: cut it off")
    for rest, code in ((bytes(100), 0), (bytes(99) + b"x", 3), (bytes(1024) + b"x", 3), (bytes(1024), 0)):
        with Rows({"a.tar": archive(["a"]) + rest}, given=given, model=NAME_MODEL) as job:
            err = fermata("batch", job.file, code=code)[1]
            assert code == 0 or "is neither zeros nor a header of a tar archive; it lies behind" in err, err
    with Rows({"a.tar": archive(["a"])[:1024]}, given=given, model=NAME_MODEL) as job:
        contains(fermata("batch", job.file, code=3)[1], "it was cut off")


run()
