"""Decodes an open file in any container into blocks of 16 kHz mono float32, and tells broken ones.

Knows PyAV; knows nothing of paths, pipes, chunks or sessions. Files are decoded while they are heard, so
one of any length needs little memory. Importing this loads no PyAV.

When is a file damaged or cut off? libav itself says so only where a packet cannot be decoded (which is then
left out). So a file also counts as cut off if
- its RIFF or FORM header (wav, aiff) counts more bytes than there are; who writes to a pipe cannot know the
  size and puts none or one near 2 or 4 GiB, which promises nothing;
- its last Ogg page or its last mp3 frame is not complete;
- it ends clearly before the time in its flac, au or Matroska header. Elsewhere that time may be a guess
  from the bit rate (mp3) or differ for a good reason (edit lists of mp4), so it is not believed;
- it is flac or Ogg, which have no pauses, and its timestamps run ahead of its samples.
None of some sixty intact files of all kinds, from three programs, was among them.
"""

import os
from collections.abc import Iterator
from io import FileIO
from itertools import pairwise
from typing import TYPE_CHECKING, Literal

import numpy as np

from audio_interaction_cli.errors import AudioFileError
from audio_interaction_cli.framing import Samples
from audio_interaction_cli.protocol import SAMPLE_RATE_HZ

if TYPE_CHECKING:
    from av import AudioFrame, AudioStream, Packet
    from av.container import InputContainer
    from av.stream import Stream

BLOCK_SAMPLES = 102_400  # 6.4 s, enough to be worked on at once; only the last block of a file is shorter
STREAMED_BYTES = 0x7F00_0000  # a size in a header above this stands for "not known"
GAP_S = 0.1  # less is rounding and codec delay
PICTURE_S = 1.0  # a film's last picture may not say how long it is to be seen

# kbit/s by the bit rate index in an mp3 frame's header; 0 = not told
MPEG1_KBPS = (0, 32, 40, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320, 0)
MPEG2_KBPS = (0, 8, 16, 24, 32, 40, 48, 56, 64, 80, 96, 112, 128, 144, 160, 0)
MP3_TAGS = (b"ID3", b"TAG", b"APETAGEX", b"LYRICS")


def decode(file: FileIO) -> Iterator[Samples]:
    """All sound of a seekable file that was opened without Python's buffer, in blocks of at least 6.4 s.

    What can be decoded comes first. Then, if that is nothing or not all, AudioFileError says what is wrong,
    as the end of a sentence that begins with the file's name.
    """
    held: list[Samples] = []
    held_samples = 0
    problem: AudioFileError | None = None
    try:
        for piece in _Decoding(file).pieces():
            held.append(piece)
            held_samples += len(piece)
            if held_samples >= BLOCK_SAMPLES:
                yield np.concatenate(held)
                held, held_samples = [], 0
    except AudioFileError as error:
        problem = error
    if held:
        yield np.concatenate(held)
    if problem:
        raise problem


class _Decoding:
    """One pass over a file."""

    def __init__(self, file: FileIO) -> None:
        self._file = file
        self._heard_samples = 0
        self._damaged = False

    @property
    def _heard_s(self) -> float:
        return self._heard_samples / SAMPLE_RATE_HZ

    def pieces(self) -> Iterator[Samples]:
        """All that can be decoded, then AudioFileError if that is nothing or not all."""
        import av

        size = self._file.seek(0, os.SEEK_END)
        if not size:
            raise AudioFileError("is empty")
        self._damaged = self._header_wants_more(size)
        for start, end in pairwise([*self._ogg_links(size), size]):
            try:
                yield from self._link(start, end)
            except av.FFmpegError:
                self._damaged = True
        if self._damaged and self._heard_samples:
            raise AudioFileError(
                f"is damaged or ends early; {self._heard_s:.1f} s of it could be heard",
                "for the rest, copy, download or record the file again",
            )
        if self._damaged:
            raise AudioFileError(
                "is not audio of a known kind, or too damaged to be read",
                "sound is read from wav, flac, mp3, ogg, opus, m4a, webm and many other files",
            )
        if not self._heard_samples:
            raise AudioFileError("holds no sound; its length is zero")

    def _header_wants_more(self, size: int) -> bool:
        """Whether a RIFF or FORM header counts more bytes than there are (not all count its own 8)."""
        self._file.seek(0)
        head = self._file.read(8)
        order: dict[bytes, Literal["little", "big"]] = {b"RIFF": "little", b"FORM": "big"}
        return head[:4] in order and size < int.from_bytes(head[4:], order[head[:4]]) < STREAMED_BYTES

    def _ogg_links(self, size: int) -> list[int]:
        """Where the links of a chained Ogg file begin, since libav goes on only to links like the first.

        A link begins with the first page of a stream that comes after another page. Other files are one link.
        """
        links, position, opening = [0], 0, True
        while position < size:
            self._file.seek(position)
            head = self._file.read(27)
            if not head.startswith(b"OggS"):
                gap = self._file.read(1 << 16).find(b"OggS") if position else -1
                if gap < 0:  # not Ogg, or not any more
                    return links
                position += len(head) + gap
                continue
            first = len(head) > 5 and bool(head[5] & 2)
            if first and not opening:
                links.append(position)
            opening = first
            position += 27 + (head[26] + sum(self._file.read(head[26])) if len(head) == 27 else 0)
        self._damaged |= position > size
        return links

    def _link(self, start: int, end: int) -> Iterator[Samples]:
        """Decode the container in the bytes from `start` to `end`.

        libav reads the open file itself and may open no other: playlists could name any file or address.
        """
        import av

        self._file.seek(0)
        options = {"fd": str(self._file.fileno()), "protocol_whitelist": "subfile,fd"}
        url = f"subfile,,start,{start},end,{end},,:fd:"
        with av.open(url, options=options, metadata_errors="replace") as container:
            if not container.streams.audio:
                raise AudioFileError("has no sound; it is a picture, a text or a silent film")
            for frame in self._resampled(self._frames(container, container.streams.audio[0])):
                self._heard_samples += frame.samples
                yield frame.to_ndarray()[0].astype(np.float32) / 32768

    def _frames(self, container: "InputContainer", stream: "AudioStream") -> Iterator["AudioFrame"]:
        """Frames of one stream, as they are; without damaged packets, as the ffmpeg program does it."""
        import av

        kind = container.format.name
        first = last = None
        end_s = decoded_s = 0.0
        packets = container.demux()
        done = False
        while not done:
            try:
                packet = next(packets, None)
                done = packet is None
                if packet is not None:
                    end_s = max(end_s, _end_s(packet))
                    if packet.stream_index != stream.index or not packet.size:  # an empty one would end decoding
                        continue
                    if kind == "mp3" and _is_tag(packet):
                        continue
                    first, last = packet if first is None else first, packet
                frames = stream.decode(packet)
            except av.FFmpegError:  # this packet, or all further ones; then `packets` ends
                self._damaged = True
                continue
            except IndexError:  # of PyAV, after the last packet, if streams have appeared on the way
                continue
            for frame in frames:
                decoded_s += frame.samples / frame.sample_rate
                yield frame
        if first is None or last is None:
            return
        begin_s = _end_s(first) - _duration(first) * float(first.time_base)
        slack_s = PICTURE_S if len(container.streams) > 1 else GAP_S
        self._damaged |= max(end_s, begin_s + decoded_s) + slack_s < _promised_s(container, stream)
        if kind in ("flac", "ogg"):
            self._damaged |= decoded_s + GAP_S < _end_s(last) - begin_s
        if kind == "mp3":
            self._damaged |= _is_cut_mp3_frame(last)

    def _resampled(self, frames: Iterator["AudioFrame"]) -> Iterator["AudioFrame"]:
        """Frames as s16, mono, 16 kHz, also where their rate, format or channels change on the way."""
        import av

        last_form, resampler = None, None
        for frame in frames:
            # not planar floats: those come from lossy codecs, which know no NaN, and reading the planes of
            # 8 channels crashes PyAV 18
            if frame.format.name in ("flt", "dbl") and not np.isfinite(frame.to_ndarray()).all():
                raise AudioFileError(
                    f"has samples that are not numbers (NaN or infinite) after {self._heard_s:.1f} s",
                    "export the file again, for example as 16-bit wav",
                )
            form = (frame.format.name, frame.layout.name, frame.sample_rate)
            if resampler is None or form != last_form:
                if resampler:
                    yield from resampler.resample(None)
                if not 1_000 <= frame.sample_rate <= 1_000_000:  # would take gigabytes
                    raise AudioFileError(f"claims an impossible sample rate, {frame.sample_rate} Hz")
                # as ffmpeg 5.1 does; libav 8.1 by itself goes through float, which rounds the last bit differently
                is_s16 = frame.format.name in ("s16", "s16p") and frame.layout.nb_channels == 1
                options = {"internal_sample_fmt": "s16p"} if is_s16 else None
                resampler = av.AudioResampler("s16", "mono", SAMPLE_RATE_HZ, options=options)
            last_form = form
            yield from resampler.resample(frame)
        if resampler:
            yield from resampler.resample(None)


def _end_s(packet: "Packet[Stream]") -> float:
    """When a packet ends, or 0 if it does not say."""
    return ((packet.pts or 0) + _duration(packet)) * float(packet.time_base)


def _duration(packet: "Packet[Stream]") -> int:
    """In units of the time base; that of a short Ogg Vorbis file's last packet may be below zero, told unsigned."""
    duration = packet.duration or 0
    return duration - 2**32 if duration >= 2**31 else duration


def _promised_s(container: "InputContainer", stream: "AudioStream") -> float:
    """When the last packet ends according to a header that can be believed, or 0."""
    match container.format.name:
        case "flac" | "au" if stream.duration and stream.time_base:
            return float(stream.duration * stream.time_base)
        case "matroska,webm" if container.duration:
            return container.duration / 1e6
    return 0.0


def _is_tag(packet: "Packet[Stream]") -> bool:
    """Whether bytes between mp3 frames are a tag or padding."""
    data = bytes(packet)
    return data.startswith(MP3_TAGS) or (len(data) > 0 and not any(data))


def _is_cut_mp3_frame(packet: "Packet[Stream]") -> bool:
    """Whether a packet is shorter than its mp3 (layer III) header says."""
    head = bytes(packet)[:3]
    if len(head) < 3 or head[0] != 0xFF or head[1] & 0xE6 != 0xE2:
        return False
    kbps = (MPEG1_KBPS if head[1] & 8 else MPEG2_KBPS)[head[2] >> 4]
    padding_bytes = head[2] >> 1 & 1
    return packet.size < int(kbps * 125 * (packet.duration or 0) * packet.time_base) + padding_bytes
