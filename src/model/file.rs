//! The safetensors container: `u64` length, JSON header, data. Everything that the header claims is checked against
//! the bytes that are there before anything of the claimed size is allocated.
//!
//! Format: <https://github.com/huggingface/safetensors#format>. Read here and not through the crate of that name
//! because its errors do not say which tensor lies; the tests hold both against each other.

use std::collections::BTreeMap;
use std::fmt;
use std::ops::Range;

use half::{bf16, f16};
use serde::de::{Deserializer, Error as _, MapAccess, Visitor};
use serde::{Deserialize, Serialize};

use super::error::Fault;
use super::shape::Shape;

/// The format's own limit on a header.
pub const HEADER_LIMIT: u64 = 100_000_000;

/// Element types of the format that have whole bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[allow(missing_docs)] // Their names are the format's.
pub enum Storage {
    BOOL,
    U8,
    I8,
    #[serde(rename = "F8_E4M3")]
    F8E4M3,
    #[serde(rename = "F8_E5M2")]
    F8E5M2,
    I16,
    U16,
    F16,
    BF16,
    I32,
    U32,
    F32,
    I64,
    U64,
    F64,
}

impl Storage {
    /// Bytes of one element.
    pub fn bytes(self) -> usize {
        use Storage::*;
        match self {
            BOOL | U8 | I8 | F8E4M3 | F8E5M2 => 1,
            I16 | U16 | F16 | BF16 => 2,
            I32 | U32 | F32 => 4,
            I64 | U64 | F64 => 8,
        }
    }

    fn parse(name: &str) -> Option<Self> {
        // The derive above is the one list of names.
        Self::deserialize(serde::de::value::StrDeserializer::<serde::de::value::Error>::new(name))
            .ok()
    }
}

impl fmt::Display for Storage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Storage::F8E4M3 => f.write_str("F8_E4M3"),
            Storage::F8E5M2 => f.write_str("F8_E5M2"),
            other => write!(f, "{other:?}"),
        }
    }
}

/// One tensor of a file: as stored, in the file's own order of dimensions.
#[derive(Clone, Copy, Debug)]
pub struct View<'a> {
    /// Element type.
    pub dtype: Storage,
    /// Extents, slowest first.
    pub shape: &'a [usize],
    /// Little-endian elements; exactly as many as `shape` says.
    pub bytes: &'a [u8],
}

impl View<'_> {
    /// Its elements as f32, from f32, f16 or bf16; `None` from any other type.
    pub fn to_f32(&self) -> Option<Vec<f32>> {
        let b = self.bytes;
        Some(match self.dtype {
            Storage::F32 => b
                .as_chunks()
                .0
                .iter()
                .map(|&c| f32::from_le_bytes(c))
                .collect(),
            Storage::F16 => b
                .as_chunks()
                .0
                .iter()
                .map(|&c| f16::from_le_bytes(c).to_f32())
                .collect(),
            Storage::BF16 => b
                .as_chunks()
                .0
                .iter()
                .map(|&c| bf16::from_le_bytes(c).to_f32())
                .collect(),
            _ => return None,
        })
    }
}

struct Entry {
    dtype: Storage,
    shape: Vec<usize>,
    range: Range<usize>,
}

/// A checked container over borrowed bytes: every tensor's range is inside the data, fits its dtype and shape, and
/// every byte of the data belongs to exactly one tensor.
pub struct Container<'a> {
    data: &'a [u8],
    tensors: BTreeMap<String, Entry>,
    metadata: BTreeMap<String, String>,
}

impl<'a> Container<'a> {
    /// Checks the whole header of a file's bytes.
    pub fn parse(bytes: &'a [u8]) -> Result<Self, Fault> {
        let Some((length, rest)) = bytes.split_first_chunk::<8>() else {
            return Err(Fault::TooShort {
                file_bytes: bytes.len() as u64,
            });
        };
        let header_bytes = u64::from_le_bytes(*length);
        if header_bytes > HEADER_LIMIT {
            return Err(Fault::HeaderTooLarge {
                header_bytes,
                limit: HEADER_LIMIT,
            });
        }
        let Some((header, data)) = rest.split_at_checked(header_bytes as usize) else {
            return Err(Fault::HeaderTruncated {
                header_bytes,
                available_bytes: rest.len() as u64,
            });
        };
        let header: Header = serde_json::from_slice(header).map_err(|e| Fault::HeaderJson {
            reason: e.to_string(),
        })?;
        let mut tensors = BTreeMap::new();
        for (name, claim) in header.tensors {
            let entry = claim.check(&name, data.len())?;
            if tensors.insert(name.clone(), entry).is_some() {
                return Err(Fault::DuplicateTensor { tensor: name });
            }
        }
        check_cover(&tensors, data.len())?;
        Ok(Self {
            data,
            tensors,
            metadata: header.metadata,
        })
    }

    /// The data section: all tensors' bytes in the file's order. The checksum is of this.
    pub fn data(&self) -> &'a [u8] {
        self.data
    }

    /// A string of the header's `__metadata__`.
    pub fn metadata(&self, key: &str) -> Option<&str> {
        self.metadata.get(key).map(String::as_str)
    }

    /// Names of all tensors, sorted.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.tensors.keys().map(String::as_str)
    }

    /// One tensor.
    pub fn tensor(&self, name: &str) -> Option<View<'_>> {
        let entry = self.tensors.get(name)?;
        // The range was checked against this very slice, so `get` finds it.
        let bytes = self.data.get(entry.range.clone())?;
        Some(View {
            dtype: entry.dtype,
            shape: &entry.shape,
            bytes,
        })
    }
}

/// The tensors must cover the data, in order, without gap or overlap: so no byte hides from the reader, and the sum
/// of all tensors, hence of all allocations, is at most the file.
fn check_cover(tensors: &BTreeMap<String, Entry>, data_len: usize) -> Result<(), Fault> {
    let mut order: Vec<_> = tensors
        .iter()
        .map(|(name, e)| (e.range.start, e.range.end, name))
        .collect();
    order.sort_unstable();
    let mut covered = 0;
    for (begin, end, name) in order {
        if begin < covered {
            let (begin, previous_end) = (begin as u64, covered as u64);
            return Err(Fault::Overlap {
                tensor: name.clone(),
                begin,
                previous_end,
            });
        }
        if begin > covered {
            return Err(Fault::Gap {
                begin: covered as u64,
                end: begin as u64,
            });
        }
        covered = end;
    }
    if covered < data_len {
        return Err(Fault::Gap {
            begin: covered as u64,
            end: data_len as u64,
        });
    }
    Ok(())
}

/// What the header says of one tensor, before any of it is believed.
#[derive(Deserialize)]
struct Claim {
    dtype: String,
    shape: Vec<usize>,
    data_offsets: (u64, u64),
}

impl Claim {
    fn check(self, name: &str, data_len: usize) -> Result<Entry, Fault> {
        let tensor = || name.to_owned();
        let (begin, end) = self.data_offsets;
        if begin > end {
            return Err(Fault::RangeReversed {
                tensor: tensor(),
                begin,
                end,
            });
        }
        if end > data_len as u64 {
            return Err(Fault::DataTruncated {
                tensor: tensor(),
                end,
                data_bytes: data_len as u64,
            });
        }
        let Some(dtype) = Storage::parse(&self.dtype) else {
            let expected = "a type of the safetensors format with whole bytes";
            return Err(Fault::UnsupportedDType {
                tensor: tensor(),
                dtype: self.dtype,
                expected,
            });
        };
        let elements = self
            .shape
            .iter()
            .try_fold(dtype.bytes(), |n, &d| n.checked_mul(d));
        let Some(expected) = elements else {
            return Err(Fault::ShapeOverflow {
                tensor: tensor(),
                shape: self.shape.as_slice().into(),
            });
        };
        if expected as u64 != end - begin {
            return Err(Fault::SizeMismatch {
                tensor: tensor(),
                bytes: end - begin,
                expected: expected as u64,
                dtype: self.dtype,
                shape: Shape::from(self.shape.as_slice()),
            });
        }
        // Both are at most `data_len`, which is a usize.
        Ok(Entry {
            dtype,
            shape: self.shape,
            range: begin as usize..end as usize,
        })
    }
}

/// The header as a list, because a map would hide a name that occurs twice.
struct Header {
    metadata: BTreeMap<String, String>,
    tensors: Vec<(String, Claim)>,
}

impl<'de> Deserialize<'de> for Header {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Entries;
        impl<'de> Visitor<'de> for Entries {
            type Value = Header;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a JSON object of tensors")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Header, A::Error> {
                let mut metadata = None;
                let mut tensors = Vec::new();
                while let Some(name) = map.next_key::<String>()? {
                    if name != "__metadata__" {
                        let claim = map
                            .next_value()
                            .map_err(|e| A::Error::custom(format!("tensor {name}: {e}")))?;
                        tensors.push((name, claim));
                    } else if metadata.replace(map.next_value()?).is_some() {
                        return Err(A::Error::custom("__metadata__ occurs twice"));
                    }
                }
                Ok(Header {
                    metadata: metadata.unwrap_or_default(),
                    tensors,
                })
            }
        }
        deserializer.deserialize_map(Entries)
    }
}

/// A tensor to be written.
#[derive(Clone, Debug, PartialEq)]
pub struct Stored {
    /// Its name.
    pub name: String,
    /// Element type.
    pub dtype: Storage,
    /// Extents, slowest first.
    pub shape: Vec<usize>,
    /// Little-endian elements.
    pub bytes: Vec<u8>,
}

impl Stored {
    /// As f32, unrounded.
    pub fn f32(name: impl Into<String>, shape: &[usize], values: &[f32]) -> Self {
        let bytes = values.iter().flat_map(|v| v.to_le_bytes()).collect();
        Self {
            name: name.into(),
            dtype: Storage::F32,
            shape: shape.to_vec(),
            bytes,
        }
    }

    /// Rounded to f16.
    pub fn f16(name: impl Into<String>, shape: &[usize], values: &[f32]) -> Self {
        let bytes = values
            .iter()
            .flat_map(|&v| f16::from_f32(v).to_le_bytes())
            .collect();
        Self {
            name: name.into(),
            dtype: Storage::F16,
            shape: shape.to_vec(),
            bytes,
        }
    }

    /// Rounded to bf16.
    pub fn bf16(name: impl Into<String>, shape: &[usize], values: &[f32]) -> Self {
        let bytes = values
            .iter()
            .flat_map(|&v| bf16::from_f32(v).to_le_bytes())
            .collect();
        Self {
            name: name.into(),
            dtype: Storage::BF16,
            shape: shape.to_vec(),
            bytes,
        }
    }
}

/// The order in which tensors lie in a file: widest element first, so that all are aligned, then by name.
pub fn data_order(tensors: &[Stored]) -> Vec<&Stored> {
    let mut order: Vec<&Stored> = tensors.iter().collect();
    order.sort_by(|a, b| {
        b.dtype
            .bytes()
            .cmp(&a.dtype.bytes())
            .then_with(|| a.name.cmp(&b.name))
    });
    order
}

/// A file's bytes. The same tensors and metadata always give the same bytes. Fails, as reading it back would, when a
/// tensor's bytes do not fit its shape or a name occurs twice.
pub fn write(metadata: &BTreeMap<String, String>, tensors: &[Stored]) -> Result<Vec<u8>, Fault> {
    #[derive(Serialize)]
    struct Described<'a> {
        dtype: Storage,
        shape: &'a [usize],
        data_offsets: (usize, usize),
    }
    let mut header = serde_json::Map::new();
    let json = |e: serde_json::Error| Fault::HeaderJson {
        reason: e.to_string(),
    };
    if !metadata.is_empty() {
        header.insert(
            "__metadata__".to_owned(),
            serde_json::to_value(metadata).map_err(json)?,
        );
    }
    let mut data = Vec::new();
    for stored in data_order(tensors) {
        let begin = data.len();
        data.extend_from_slice(&stored.bytes);
        let described = Described {
            dtype: stored.dtype,
            shape: &stored.shape,
            data_offsets: (begin, data.len()),
        };
        let value = serde_json::to_value(described).map_err(json)?;
        if header.insert(stored.name.clone(), value).is_some() {
            return Err(Fault::DuplicateTensor {
                tensor: stored.name.clone(),
            });
        }
    }
    let mut text = serde_json::to_vec(&header).map_err(json)?;
    text.resize(text.len().next_multiple_of(8), b' '); // The format's padding: the data begins aligned.
    let mut file = (text.len() as u64).to_le_bytes().to_vec();
    file.extend_from_slice(&text);
    file.extend_from_slice(&data);
    Container::parse(&file)?;
    Ok(file)
}
