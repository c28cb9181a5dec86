//! Opens a file of text rows: plain, or compressed with gzip or Zstandard. Its first bytes decide, as in `datasets`: the
//! name may say `.gz` of a file that a download has already decompressed.

use std::fs::File;
use std::io::{BufRead, BufReader, Error, ErrorKind, Read, Result};
use std::path::Path;

use flate2::bufread::MultiGzDecoder;

const BUFFER_BYTES: usize = 1 << 18;
const GZIP: &[u8] = b"\x1f\x8b";
const ZSTANDARD: &[u8] = b"\x28\xb5\x2f\xfd";
/// Compressions and archives that are not read: the first bytes, and how to get at the rows.
const OTHERS: [(&[u8], &str); 4] = [
    (
        b"BZh91AY&SY",
        "compressed with bzip2; decompress it, or use gzip or Zstandard",
    ),
    (
        b"\xfd7zXZ\0",
        "compressed with xz; decompress it, or use gzip or Zstandard",
    ),
    (b"PK\x03\x04", "a zip archive; unpack it"),
    (
        b"\x04\x22\x4d\x18",
        "compressed with LZ4; decompress it, or use gzip or Zstandard",
    ),
];
/// UTF-16's byte order marks.
const UTF16: [&[u8]; 2] = [b"\xff\xfe", b"\xfe\xff"];

/// A reader of the file's text.
pub(super) fn open(path: &Path) -> Result<Box<dyn BufRead>> {
    let mut file = BufReader::with_capacity(BUFFER_BYTES, File::open(path)?);
    let first = file.fill_buf()?;
    if let Some((_, what)) = OTHERS.iter().find(|(magic, _)| first.starts_with(magic)) {
        return Err(Error::new(ErrorKind::InvalidData, format!("this is {what}")));
    }
    let reader: Box<dyn Read> = if first.starts_with(GZIP) {
        Box::new(MultiGzDecoder::new(file))
    } else if first.starts_with(ZSTANDARD) {
        Box::new(zstd::stream::read::Decoder::with_buffer(file)?)
    } else {
        return not_utf16(Box::new(file));
    };
    not_utf16(Box::new(BufReader::with_capacity(BUFFER_BYTES, reader)))
}

fn not_utf16(mut reader: Box<dyn BufRead>) -> Result<Box<dyn BufRead>> {
    let first = reader.fill_buf()?;
    if UTF16.iter().any(|mark| first.starts_with(mark)) {
        let message = "the text is UTF-16; rows are read from UTF-8 (`iconv -f UTF-16 -t UTF-8` converts it)";
        return Err(Error::new(ErrorKind::InvalidData, message));
    }
    Ok(reader)
}
