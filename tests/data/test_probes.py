import pytest

from saebench.data.probes import binary_dataset_names, dataset_files, dataset_names, read_dataset
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


def test_binary_names_follow_the_index(fake_probes):
    rows = [
        ("Binary Classification", "cleaned_data/5_hist_fig_ismale.csv"),
        ("Continuous Data", "cleaned_data/2_hist_fig_birthyear.csv"),
        ("Binary Classification", "cleaned_data/66_living-room.csv"),
    ]
    fake_probes.add("probing_datasets_MASTER.csv.zst", rows, header=("Data type", "Dataset save name"))
    assert binary_dataset_names() == ["5_hist_fig_ismale", "66_living-room"]


def test_unknown_name_did_you_mean():
    with pytest.raises(UsageError, match=r"Unknown dataset '97_news_clas' .* Did you mean '97_news_class'\?"):
        read_dataset("97_news_clas")


def test_absent_asset_says_what_to_run(tmp_path, monkeypatch):
    monkeypatch.setenv("SAEBENCH_HOME", str(tmp_path))
    with pytest.raises(AssetError, match="saebench assets pull sae-probes"):
        read_dataset("97_news_class")


@pytest.mark.parametrize("damage", ["truncated", "empty", "garbage", "gone", "column"])
def test_damaged_file_is_a_data_error(fake_probes, damage):
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
    with pytest.raises(DataError, match="saebench assets verify sae-probes"):
        read_dataset("97_news_class")
