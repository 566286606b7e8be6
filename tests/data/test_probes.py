import pytest

from saebench.data.probes import (
    BinaryTask,
    binary_dataset_names,
    binary_tasks,
    dataset_files,
    dataset_names,
    read_dataset,
    shifted_version,
)
from saebench.errors import AssetError, DataError, UsageError

NEWS = "cleaned_data/97_news_class.csv.zst"


def test_names_come_from_the_manifest_in_order():
    names = dataset_names()
    assert len(names) == 155 + 8
    numbers = [int(name.split("_")[0]) for name in names]
    assert numbers == sorted(numbers)
    assert dataset_files()["97_news_class"] == NEWS
    assert dataset_files()["87_glue_cola_OOD"].startswith("OOD data/")
    assert "66_living-room_translations" not in names


def test_reads_prompts_as_written(fake_probes):
    fake_probes.add(NEWS, [("NA", 1), ('two\nlines, "quoted"', 0), ("007", 2), ("", 1)])
    frame = read_dataset("97_news_class")
    assert frame["prompt"].tolist() == ["NA", 'two\nlines, "quoted"', "007", ""]
    assert frame["target"].tolist() == [1, 0, 2, 1]


INDEX = ("Data type", "Dataset save name", "Dataset Tag", "Dataset name", "Probe to", "Link")
BINARY = "Binary Classification"


def test_binary_tasks_follow_the_index(fake_probes):
    rows = [
        ("Continuous Data", "cleaned_data/2_hist_fig_birthyear.csv", "hist_fig_birthyear", "Figures ", "Year", "url"),
        (BINARY, "cleaned_data/5_hist_fig_ismale.csv", "hist_fig_ismale", "", "Male?", ""),
        (BINARY, "cleaned_data/66_living-room.csv", "living-room", "phrase_living-room", "", ""),
        (BINARY, "cleaned_data/67_social-security.csv", "social-security", "phrase", "t/f", "other"),
        (BINARY, "cleaned_data/68_credit-card.csv", "credit-card", "phrase", "^", "^"),
    ]
    fake_probes.add("probing_datasets_MASTER.csv.zst", rows, header=INDEX)
    male = BinaryTask("hist_fig_ismale", "5_hist_fig_ismale", "Figures", "Male?", "url", "5_hist_fig_ismale_OOD")
    room = BinaryTask("living-room", "66_living-room", "phrase_living-room", "", "", "66_living-room_OOD")
    card = BinaryTask("credit-card", "68_credit-card", "phrase", "t/f", "other", None)
    tasks = binary_tasks()
    assert (tasks["hist_fig_ismale"], tasks["living-room"], tasks["credit-card"]) == (male, room, card)
    assert list(tasks) == ["hist_fig_ismale", "living-room", "social-security", "credit-card"]
    assert binary_dataset_names()[:2] == ["5_hist_fig_ismale", "66_living-room"]


def test_seven_datasets_have_a_shifted_version_that_can_be_answered():
    shifted = {name: version for name in dataset_names() if (version := shifted_version(name))}
    assert len(shifted) == 7
    assert shifted["87_glue_cola"] == "87_glue_cola_OOD"
    assert "90_glue_qnli_OOD" in dataset_names()
    assert "90_glue_qnli" not in shifted


def test_unknown_name_did_you_mean():
    with pytest.raises(UsageError, match=r"Unknown dataset '97_news_clas' .* Did you mean '97_news_class'\?"):
        read_dataset("97_news_clas")


def test_absent_asset_says_what_to_run(tmp_path, monkeypatch):
    monkeypatch.setenv("SAEBENCH_HOME", str(tmp_path))
    with pytest.raises(AssetError, match="saebench assets pull sae-probes"):
        read_dataset("97_news_class")


@pytest.mark.parametrize("damage", ["truncated", "empty", "garbage", "gone", "column"])
def test_damaged_file_is_named_with_the_command_that_helps(fake_probes, damage):
    path = fake_probes.add(NEWS, [(f"text {i * 7919 % 1000}", i) for i in range(2000)])
    match damage:
        case "truncated":
            path.write_bytes(path.read_bytes()[:-200])
        case "empty":
            path.write_bytes(b"")
        case "garbage":
            path.write_bytes(b"garbage")
        case "gone":
            path.unlink()
        case "column":
            fake_probes.add(NEWS, [("x", 1)], header=("text", "target"))
    error, command = (DataError, "verify sae-probes") if damage == "column" else (AssetError, "pull sae-probes --force")
    with pytest.raises(error, match=f"saebench assets {command}"):
        read_dataset("97_news_class")
