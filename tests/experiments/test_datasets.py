"""The page about the data sets."""


def test_the_page_has_counts_baselines_and_a_trained_row(run, tmp_path):
  done = run(
    "--sets=digits",
    "--steps=2",
    "--seeds=2",
    f"--runs={tmp_path / 'runs'}",
    f"--output={tmp_path / 'data.md'}",
    script="benchmarks.datasets",
  )
  assert done.returncode == 0, done.stderr
  page = (tmp_path / "data.md").read_text()
  for words in (
    "--seeds=2 --sets=digits`, commit ",
    "| digits | images, closed-set | train | 10 | 1,078 | 8×8 |",
    "| digits | images, closed-set | test | 10 | 360 | 8×8 |",
    "| raw pixels |",
    "| PCA-2 of pixels |",
    "| untrained mlp |",
    "| contrastive, mlp |",
    "closed-set",
  ):
    assert words in page


def test_the_page_of_an_unknown_set_lists_the_sets(run, tmp_path):
  output = f"--output={tmp_path / 'data.md'}"
  done = run("--sets=digit", output, script="benchmarks.datasets")
  assert done.returncode == 2
  assert "no config 'digit'. Known: att_faces," in done.stderr
  assert not list(tmp_path.iterdir())
