"""The first line of a command says on which device it computes."""

from experiments.cli import start_device, unused_accelerator


def test_the_device_is_named_and_an_unused_one_is_warned_of(
  tmp_path, capsys, monkeypatch
):
  monkeypatch.setattr("experiments.cli.unused_accelerator", lambda: "one more")
  start_device()
  said = capsys.readouterr()
  assert said.out == "device: 1 x cpu\n" and said.err == "warning: one more\n"


def test_an_accelerator_is_known_by_its_device_file(tmp_path):
  assert unused_accelerator(tmp_path, {}) == ""
  (tmp_path / "nvidiactl").touch()
  assert unused_accelerator(tmp_path, {}) == ""
  (tmp_path / "nvidia0").touch()
  assert "metric-learning[cuda]" in unused_accelerator(tmp_path, {})
  assert unused_accelerator(tmp_path, {"JAX_PLATFORMS": "cpu"}) == ""
