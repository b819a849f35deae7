"""Pictures and sets in formats that are not read here, known by how they begin: what they are, how to convert them."""

from __future__ import annotations

_BY_PILLOW = "convert it: python -c \"from PIL import Image; Image.open('{name}').convert('RGB').save('{name}.png')\""
_BEGINNINGS: tuple[tuple[int, bytes, str, str], ...] = (
    (0, b"\xff\x0a", "JPEG XL", "convert it: djxl FILE FILE.png"),
    (0, b"\0\0\0\x0cJXL ", "JPEG XL", "convert it: djxl FILE FILE.png"),
    (0, b"8BPS", "Photoshop", _BY_PILLOW),
    (0, b"\0\0\1\0", "an icon", _BY_PILLOW),
    (0, b"qoif", "QOI", _BY_PILLOW),
    (0, b"DDS ", "DDS", _BY_PILLOW),
    (0, b"\x0a\x05\x01", "PCX", _BY_PILLOW),
    (0, b"\x01\xda", "SGI", _BY_PILLOW),
    (0, b"\x59\xa6\x6a\x95", "a Sun raster", _BY_PILLOW),
    (0, b"SIMPLE  =", "FITS", _BY_PILLOW),
    (0, b"PF\n", "PFM", _BY_PILLOW),
    (0, b"Pf\n", "PFM", _BY_PILLOW),
    (0, b"v/1\x01", "OpenEXR", "convert it: magick FILE FILE.png"),
    (0, b"#?RADIANCE", "Radiance HDR", "convert it: magick FILE FILE.png"),
    (0, b"gimp xcf", "GIMP", "export it as PNG"),
    (0, b"%PDF", "PDF", "convert it: pdftoppm -png FILE FILE"),
    (0, b"%!PS", "PostScript", "convert it: magick FILE FILE.png"),
    (128, b"DICM", "DICOM", "convert it: dcm2img FILE FILE.png"),
    (8, b"CR\x02", "a camera's raw file", "convert it with the camera maker's program, or darktable-cli FILE FILE.png"),
    (0, b"FUJIFILMCCD-RAW", "a camera's raw file", "convert it with darktable-cli FILE FILE.png"),
)
_HEIF_BRANDS = (b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"mif1", b"msf1")
_HEIF = (
    "install the package that reads it, pip install 'encoder-audit[heif]', or convert it: heif-convert FILE FILE.png"
)
_ARCHIVES: tuple[tuple[int, bytes, str], ...] = (
    (0, b"PK\x03\x04", "a zip archive among the images"),
    (257, b"ustar", "a tar archive among the images"),
    (0, b"\x1f\x8b", "a gzip archive among the images"),
    (0, b"BZh", "a bzip2 archive among the images"),
    (0, b"\xfd7zXZ\0", "an xz archive among the images"),
    (0, b"7z\xbc\xaf", "a 7z archive among the images"),
    (0, b"Rar!", "a RAR archive among the images"),
)
_FILM = "take pictures out of it: ffmpeg -i FILE picture-%06d.png"
RAW = "a camera's raw file, of which only the preview could be read; convert it: darktable-cli FILE FILE.png"


def named_stranger(data: bytes) -> str | None:
    """What a file is that is no image of the formats read here, and what to do; None where that is not known."""
    for position, beginning, what, action in _BEGINNINGS:
        if data[position : position + len(beginning)] == beginning:
            return _sentence(what, action)
    if data[4:8] == b"ftyp":
        if data[8:12] in _HEIF_BRANDS:
            return _sentence("HEIC", _HEIF)
        if data[8:12] in (b"avif", b"avis"):
            return _sentence("AVIF, which this Pillow cannot read", "convert it: magick FILE FILE.png")
        return _sentence("a film", _FILM)
    if (data[:4] == b"RIFF" and data[8:12] == b"AVI ") or data[:4] == b"\x1a\x45\xdf\xa3":
        return _sentence("a film", _FILM)
    head = data[:1024].lstrip(b"\xef\xbb\xbf \t\r\n").lower()
    if head.startswith(b"<svg") or (head.startswith(b"<?xml") and b"<svg" in head):
        return _sentence("SVG", "convert it: rsvg-convert FILE -o FILE.png")
    return None


def named_archive(data: bytes) -> str | None:
    """What an archive is that lies where an image was looked for, and what to do; None for anything else."""
    for position, beginning, what in _ARCHIVES:
        if data[position : position + len(beginning)] == beginning:
            return _sentence(what, "unpack it and give the folder, or give the archive by itself")
    return None


_NUMPY = "python -c \"import numpy; {line}; numpy.save('images.npy', x)\""
TENSOR_LINE = _NUMPY.format(line="import torch; x = torch.load('FILE', weights_only=True).numpy()")
_SETS: tuple[tuple[int, bytes, str, str], ...] = (
    (
        *(0, b"MATLAB 5.0", "a MATLAB file"),
        _NUMPY.format(line="import scipy.io; x = scipy.io.loadmat('FILE')['X'].transpose(3, 0, 1, 2)")
        + " (SVHN's order of axes)",
    ),
    (0, b"\x89HDF\r\n", "an HDF5 file", _NUMPY.format(line="import h5py; x = h5py.File('FILE')['KEY'][:]")),
    (0, b"7z\xbc\xaf", "a 7z archive", "7z x FILE -oFOLDER, and give the folder."),
    (0, b"Rar!", "a RAR archive", "unrar x FILE FOLDER/, and give the folder."),
)


def stranger_for_a_set(start: bytes) -> tuple[str, str]:
    """What a file is that begins with ``start`` and is no set of images, and what to do."""
    if not start:
        return "an empty file", "Give the file that holds the images."
    for position, beginning, what, action in _SETS:
        if start[position : position + len(beginning)] == beginning:
            return what, f"Convert it: {action}"
    if start.startswith((b"\x89PNG", b"\xff\xd8\xff", b"GIF8", b"BM", b"II*\0", b"MM\0*")) or named_stranger(start):
        return "one picture", "Give the folder that it is in, or put many of them into a zip or tar."
    return "a file that is none of these", "Put the images into a zip or tar."


def _sentence(what: str, action: str) -> str:
    return f"{what}, which is not read here; {action.format(name='FILE')}"
