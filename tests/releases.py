"""Miniatures of the data sets: a few pictures in the layout and the label files of each release."""

import json
from pathlib import Path
from zlib import crc32

import numpy as np
import pandas as pd
from PIL import Image
from scipy.io import savemat

GRADES = [f"Grade #{i}" for i in range(1, 21)]


def picture(path: Path, shade: int = 0) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.arange(48 * 64 * 3, dtype=np.uint32).reshape(48, 64, 3) * (shade + 7) % 251
    pixels[:16, :16] = np.frombuffer(crc32(path.as_posix().encode()).to_bytes(4, "big")[:3], np.uint8)  # one of its own
    Image.fromarray(pixels.astype(np.uint8)).save(path)


def pictures(root: Path, names) -> None:
    for shade, name in enumerate(names):
        picture(root / name, shade)


def cells(texts) -> np.ndarray:
    found = np.empty((1, len(texts)), dtype=object)
    found[0] = texts
    return found


def kadid10k(root):
    names = [f"I{ref:02d}_{kind:02d}_{level:02d}.png" for ref in (1, 2, 3) for kind in (1, 10) for level in (1, 5)]
    pictures(root / "images", [*names, "I01.png", "I02.png", "I03.png"])
    rows = [f"{n},{n[:3]}.png,{4.5 if n[7:9] == '01' else 1.2},0.5" for n in names]
    (root / "dmos.csv").write_text("dist_img,ref_img,dmos,var\n" + "\n".join(rows) + "\n")
    return len(names)


def tid(root, kinds=24, levels=5):
    names = [f"i{ref:02d}_{kind:02d}_{level}.bmp" for ref in (1, 2, 3) for kind in (1, kinds) for level in (1, levels)]
    pictures(root / "distorted_images", names)
    listed = [name.replace("i", "I", 1).replace("bmp", "BMP") if "_01_1" in name else name for name in names]
    scores = [6.5 if name.endswith("_1.bmp") else 1.5 for name in names]
    lines = (f"{score:.5f} {name}\n" for score, name in zip(scores, listed, strict=True))
    (root / "mos_with_names.txt").write_text("".join(lines))
    (root / "mos.txt").write_text("".join(f"{score:.5f}\n" for score in scores))
    (root / "mos_std.txt").write_text("0.15000\n" * len(names))
    return len(names)


def live(root, realigned=True):
    """Of 982 entries, as released; 203 are references."""
    folders = {"jp2k": (227, 58), "jpeg": (233, 58), "wn": (174, 29), "gblur": (174, 29), "fastfading": (174, 29)}
    names, originals, scores = [], [], []
    for folder, (count, references) in folders.items():
        names += [f"{folder}/img{n}.bmp" for n in range(1, count + 1)]
        originals += [n < references for n in range(count)]
        scores += [0.0 if n < references else 20 + 60 * n / count for n in range(count)]
    shade = [name for name, original in zip(names, originals, strict=True) if not original]
    pictures(root, shade)
    scores[names.index(shade[0])], scores[names.index(shade[1])] = -2.6, 111.8
    references = [f"ref{i % 29}.bmp" for i in range(len(names))]
    savemat(root / "refnames_all.mat", {"refnames_all": cells(references)})
    row = np.array(scores)[None]
    orgs = np.array(originals, dtype=np.uint8)[None]
    savemat(root / "dmos.mat", {"dmos": row / 2, "orgs": orgs})
    if realigned:
        savemat(root / "dmos_realigned.mat", {"dmos_new": row, "dmos_std": row * 0 + 2, "orgs": orgs})
    return len(shade)


def livec(root):
    names = [*(f"t{i}.bmp" for i in range(1, 8)), *(f"{i}.{'bmp' if i % 2 else 'JPG'}" for i in range(100, 112))]
    pictures(root / "Images", [f"trainingImages/{name}" if name[0] == "t" else name for name in names])
    (root / "Data").mkdir()
    savemat(root / "Data" / "AllImages_release.mat", {"AllImages_release": cells(names).T})
    for name in ("MOS", "StdDev"):
        savemat(
            root / "Data" / f"All{name}_release.mat", {f"All{name}_release": 10 + 4.0 * np.arange(len(names))[None]}
        )
    return len(names) - 7


def csiq(root):
    kinds = {"noise": "awgn/{}.AWGN", "jpeg 2000": "jpeg2000/{}.jpeg2000", "contrast": "contrast/{}.contrast"}
    rows = [("1600", kind, level) for kind in kinds for level in (1, 5)]
    rows += [("boston", kind, level) for kind in kinds for level in (1, 5)]
    pictures(root / "dst_imgs", [f"{kinds[kind].format(name)}.{level}.png" for name, kind, level in rows])
    frame = pd.DataFrame(
        [[int(n) if n.isdigit() else n, 1, kind, level, 0.05, level / 6] for n, kind, level in rows],
        columns=["image", "dst_idx", "dst_type", "dst_lev", "dmos_std", "dmos"],
    )
    with pd.ExcelWriter(root / "csiq.DMOS.xlsx") as book:
        pd.DataFrame({"scratch": [1]}).to_excel(book, sheet_name="Sheet1")
        frame.to_excel(book, sheet_name="all_by_image", startrow=3, startcol=3, index=False)
    return len(rows)


def koniq10k(root, official=True):
    names = [f"{i}.jpg" for i in range(10004473, 10004485)]
    pictures(root / "1024x768", names)
    pictures(root / "512x384", names)
    head, shares = "image_name,c1,c2,c3,c4,c5,c_total,MOS,SD,MOS_zscore", "0,0,.24,.69,.07,105"
    rows = [f"{name},0,0,25,73,7,105,{1.5 + i / 4},0.5,{10 + 7 * i}" for i, name in enumerate(names)]
    (root / "koniq10k_scores_and_distributions.csv").write_text("\n".join([head, *rows]) + "\n")
    if official:
        sets = ["training"] * 7 + ["validation"] * 2 + ["test"] * 3
        rows = [f"{n},{shares},{10 + 7 * i},0.5,{part}" for i, (n, part) in enumerate(zip(names, sets, strict=True))]
        head = "image_name,c1,c2,c3,c4,c5,c_total,MOS,SD,set"
        (root / "koniq10k_distributions_sets.csv").write_text("\n".join([head, *rows]) + "\n")
    return len(names)


def koniqpp(root):
    count = koniq10k(root)
    head = '"filename","qmos","sd","votes","artifacts","blur","contrast","colors","other","degraded.amount"'
    rows = [f'"{10004473 + i}.jpg",{1.5 + i / 4},0.9,{40 + i},0.1,{i / 20},0.1,0.1,0,0.1' for i in range(count)]
    (root / "koniq++database.csv").write_text("\n".join([head, *rows]) + "\n")
    return count


def bid(root):
    numbers = [1, 3, 4, 5, 6, 7, 8, 9, 10, 11]
    pictures(root / "ImageDatabase", [f"DatabaseImage{n:04d}.JPG" for n in numbers])
    rows = []
    for n in numbers:
        grades = [min(5, 0.4 * n + k / 10) for k in range(12)]
        rows.append([n, np.mean(grades), 13 if n == 4 else 12, *grades, *[None] * 8])
    columns = ["Image Number", "Average Subjective Grade", "Number of Grades", *GRADES]
    pd.DataFrame(rows, columns=columns).to_excel(root / "DatabaseGrades.xlsx", sheet_name="Plan1", index=False)
    return len(numbers)


def spaq(root):
    names = [f"{i:05d}.jpg" for i in range(1, 11)]
    pictures(root / "TestImage", names)
    (root / "Annotations").mkdir()
    columns = ["Image name", "MOS", "Brightness", "Colorfulness", "Contrast", "Noisiness", "Sharpness"]
    rows = [[name, 10.0 + 8 * i, 50, 50, 50, 20 + 7 * i, 50] for i, name in enumerate(names)]
    pd.DataFrame(rows, columns=columns).to_excel(
        root / "Annotations" / "MOS and Image attribute scores.xlsx", index=False
    )
    scenes = [
        "Animal",
        "Cityscape",
        "Human",
        "Indoor scene",
        "Landscape",
        "Night scene",
        "Plant",
        "Still-life",
        "Others",
    ]
    rows = [[name, *(0.5 if k in (i % 9, (i + 1) % 9) else 0 for k in range(9))] for i, name in enumerate(names)]
    pd.DataFrame(rows, columns=["Image name", *scenes]).to_excel(
        root / "Annotations" / "Scene category labels.xlsx", index=False
    )
    return len(names)


def pipal(root):
    for part, ref in enumerate(("A0001", "A0060", "A0121"), start=1):
        names = [f"{ref}_0{group}_{index:02d}.bmp" for group in (0, 6) for index in range(3)]
        pictures(root / f"Distortion_{part}", names)
        (root / "Train_Label").mkdir(exist_ok=True)
        lines = (f"{name},{1400 + 60 * i + part}\n" for i, name in enumerate(names))
        (root / "Train_Label" / f"{ref}.txt").write_text("".join(lines))
    return 18


def flive(root):
    names = [f"voc_emotic_ava/EMOTIC__{i}.jpg" for i in range(9)] + ["blur_dataset/motion0044.jpg"]
    pictures(root / "database", [*names, "EE371R/rq1.jpg"])
    rows = [f"{name},{20 + 7 * i}" for i, name in enumerate([*names, "EE371R/rq1.jpg"])]
    (root / "labels_image.csv").write_text("\r\n".join(["name,mos", *rows]) + "\r\n")
    rows = [f"1,{name}" for name in names[:3]]
    (root / "labels640.csv").write_text("\r\n".join(["mos_image,name_image", *rows]) + "\r\n")
    return len(names)


def piq23(root):
    head = "IMAGE PATH,JOD,JOD STD,TOTAL COMPARISONS,IMAGE,SCENE,ATTRIBUTE"
    for attribute in ("Overall", "Details", "Exposure"):
        rows = []
        for scene in range(4):
            for i in range(5):
                name = f"{i}_Indoor_Scene_{scene}.{('jpg', 'JPG', 'tiff')[i % 3]}"
                picture(root / attribute / name, 5 * scene + i)
                rows.append(f"{attribute}\\{name},{i - 2},0.4,80,{name},Indoor_Scene_{scene},{attribute}")
        (root / f"Scores_{attribute}.csv").write_text("\n".join([head, *rows]) + "\n")
    images = [row.split(",")[4] for row in rows]
    parts = [f"{name},{'Test' if name[0] == '4' else 'Train'}" for name in images]
    (root / "Device Split.csv").write_text("\n".join(["IMAGE,SPLIT", *parts]) + "\n")
    parts = [f"Indoor_Scene_{scene},{'Test' if scene == 3 else 'Train'},5" for scene in range(4)]
    (root / "Scene Split.csv").write_text("\n".join(["SCENE,SPLIT,NB IMAGES", *parts]) + "\n")
    return 20


def uhd_iqa(root):
    names = [f"{i}.jpg" for i in range(1, 13)]
    sets = ["training"] * 7 + ["validation"] * 2 + ["test"] * 3
    scores = [*np.linspace(0.6, 0.8, 9), 0.29, 0.6, 0.88]
    pictures(root, [f"challenge/{part}/{name}" for name, part in zip(names, sets, strict=True)])
    rows = [f'"{n}",{s:.4f},"{part}",3840' for n, s, part in zip(names, scores, sets, strict=True)]
    (root / "uhd-iqa-metadata.csv").write_text("\n".join(['"image_name","quality_mos","set","orig_width"', *rows]))
    return len(names)


def cid2013(root):
    names = [f"IS{1 + c // 2}/co{c}/IS_I_C0{c}_D0{d}.jpg" for c in (1, 2, 3) for d in (1, 2, 3, 4)]
    pictures(root, names)
    rows = [f"CID2013/{name},Authentic,{-9.5 + 8 * i}" for i, name in enumerate(names)]
    (root / "CID2013.txt").write_text("\n".join(["dis_img_path,dis_type,score", *rows]) + "\n")
    return len(names)


def gfiqa(root):
    for part, numbers in (("train", range(7)), ("val", range(7, 9)), ("test", range(9, 12))):
        pictures(root / part / "img", [f"{i}_0.png" for i in numbers])
        found = {"Image": [f"img/{i}_0.png" for i in numbers], "MOS": [0.05 * i + 0.2 for i in numbers]}
        (root / part / "label.json").write_text(json.dumps(found))
    return 12


def biq2021(root):
    for table, numbers in (("Train", range(8)), ("Test", range(8, 12))):
        names = [f"ss0{1 + i % 2}-{i}.jpg" for i in numbers]
        pictures(root / "Images", names)
        rows = [f"{name},{0.1 + 0.06 * i}" for i, name in zip(numbers, names, strict=True)]
        (root / f"{table} (Images and MOS).csv").write_text("\n".join(["Image Name,MOS", *rows]) + "\n")
    return 8


def agiqa1k(root):
    names = [f"{maker}_{i}_0_0_0.jpg" for maker in ("deepai", "dreamStudio") for i in range(5)]
    names.append("dreamStudio_8_9_1_1.jpg")
    pictures(root / "file", names)
    rows = [[name, f"prompt {i % 5}", 0.5 + i / 4] for i, name in enumerate(names)]
    rows.append([names[-1], "prompt 0", 2.084])  # as the release repeats it
    pd.DataFrame(rows, columns=["Image", "Prompt", "MOS"]).to_excel(root / "AIGC_MOS_Zscore.xlsx", index=False)
    return len(names)


def agiqa3k(root):
    names = [f"{model}_{prompt:03d}.jpg" for model in ("AttnGAN_normal", "glide_lowcorr") for prompt in range(6)]
    pictures(root, names)
    head = "name,prompt,adj1,adj2,style,mos_quality,std_quality,mos_align,std_align"
    rows = [f"{n},prompt {n[-7:-4]},,,,{0.3 * i},0.2,{0.35 * i},0.2" for i, n in enumerate(names)]
    (root / "data.csv").write_text("\r\n".join([head, *rows]) + "\r\n")
    return len(names)


def aigciqa2023(root, numbered=True):
    models = ("controlnet", "DALLE", "Glide", "Lafite", "stable-diffusion", "Unidiffuser")
    for i in range(2400):
        name = f"allimg/{i}.png" if numbered else f"{models[i // 400]}/{i % 400 // 4:03d}-{i % 4 + 1}.png"
        path = root / "Image" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    for kind, folder, key in ((1, "MOS", "MOSz"), (2, "MOS", "MOSz"), (3, "MOS", "MOSz"), (1, "STD", "SD")):
        (root / "DATA" / folder).mkdir(parents=True, exist_ok=True)
        values = (30.0 + 40 * np.arange(2400) / 2400 + kind)[:, None] if folder == "MOS" else np.full((2400, 1), 9.0)
        file = f"mosz{kind}.mat" if folder == "MOS" else f"SD{kind}.mat"
        savemat(root / "DATA" / folder / file, {key: values})
    prompts = [["Basic", "Animals", f'a "thing" {i}' if i == 60 else f"a thing {i}"] for i in range(100)]
    pd.DataFrame(prompts).to_excel(root / "AIGCIQA2023_Prompts.xlsx", header=False, index=False)
    return 2400


def aigiqa20k(root):
    names = [f"{model}_{i:04d}.png" for model in ("DALLE2", "LCM_SD1.5") for i in range(6)]
    pictures(root / "train", names)
    rows = [[name, f"prompt {i % 6}", 0.5 + i / 3] for i, name in enumerate(names)]
    pd.DataFrame(rows, columns=["name", "prompt", "mos"]).to_excel(root / "info_train.xlsx", index=False)
    return len(names)


def pku_aigiqa4k(root):
    names = [f"{model}_10{i:02d}_00.jpg" for model in ("SD", "MJ") for i in range(6)]
    pictures(root / "All", names)
    rows = [["", f"prompt {n[3:7]}", n, 1 + i / 4, 2, 1 + i / 5, 3 + i] for i, n in enumerate(names)]
    columns = ["Image_prompt", "Text_prompt", "Generated_image", "MOS_q", "MOS_a", "MOS_c", "MOS"]
    pd.DataFrame(rows, columns=columns).to_excel(root / "annotation.xlsx", index=False)
    return len(names)


def evalmuse(root):
    rows = []
    for i in range(12):
        picture(root / "images" / f"SDXL/{i:05d}.png", i)
        votes = [1 + i % 5, 1 + i % 5, min(5, 2 + i % 5)]
        rows.append({"prompt": f"prompt {i // 2}", "img_path": f"SDXL/{i:05d}.png", "total_score": votes})
    (root / "train_list.json").write_text(json.dumps(rows))
    return len(rows)


def genai_bench(root):
    models = ("DALLE_3", "SDXL_Turbo", "Midjourney_6")
    rows = {}
    for i in range(1, 6):
        votes = {model: [5, 41, 4] if (i, k) == (2, 0) else [1 + (i + k) % 5] * 3 for k, model in enumerate(models)}
        rows[f"{i:05d}"] = {"id": f"{i:05d}", "prompt": f"prompt {i}", "prompt in Chinese": "提示", "models": votes}
        pictures(root, [f"{model}/{i:05d}.jpeg" for model in models])
    (root / "genai_image.json").write_text(json.dumps(rows))
    return 15


MAKERS = {
    "kadid10k": kadid10k, "tid2013": tid, "tid2008": lambda root: tid(root, 17, 4), "live": live, "livec": livec,
    "csiq": csiq, "koniq10k": koniq10k, "koniq++": koniqpp, "bid": bid, "spaq": spaq, "pipal": pipal, "flive": flive,
    "piq23": piq23, "uhd_iqa": uhd_iqa, "cid2013": cid2013, "gfiqa": gfiqa, "biq2021": biq2021, "agiqa1k": agiqa1k,
    "agiqa3k": agiqa3k, "aigciqa2023": aigciqa2023, "aigiqa20k": aigiqa20k, "pku_aigiqa4k": pku_aigiqa4k,
    "evalmuse": evalmuse, "genai_bench": genai_bench,
}  # fmt: skip
