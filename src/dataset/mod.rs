//! Labelled images: what `eval` measures accuracy on.
//!
//! A data set knows how many images it has and each one's label before any image is read, so that groups can be drawn
//! first and files decoded lazily, as they are needed. Every label is a class index of the model that the set was
//! opened for; a set that does not fit the model's classes does not open.

use std::path::{Path, PathBuf};

use crate::error::Classify;
use crate::image::{Image, ImageError};

mod cifar;
mod folder;

/// An ordered set of labelled images.
#[derive(Debug)]
pub struct Dataset {
    name: String,
    source: Source,
}

#[derive(Debug)]
enum Source {
    /// Images already in memory.
    Memory {
        images: Vec<Image>,
        labels: Vec<u32>,
    },
    Cifar(cifar::Records),
    Folder(folder::Files),
}

impl Dataset {
    /// Wraps images that are already decoded; `None` when there are not as many labels as images.
    pub fn from_memory(
        name: impl Into<String>,
        images: Vec<Image>,
        labels: Vec<u32>,
    ) -> Option<Self> {
        (images.len() == labels.len()).then(|| Self {
            name: name.into(),
            source: Source::Memory { images, labels },
        })
    }

    /// Opens `path` for a model with these class names:
    ///
    /// * a file is read as CIFAR-10 binary records (one label byte, then 3072 bytes: red, green and blue planes);
    /// * a folder that holds `*.bin` files, or a folder `cifar-10-batches-bin` that does, is CIFAR-10 too:
    ///   `test_batch.bin` alone if it is there, else all of them in order of name;
    /// * any other folder holds one folder a class, each with JPEG, PNG, WebP or BMP files. If every folder's name is
    ///   a class name, the names decide; else, if there are as many folders as classes, their sorted order does.
    ///
    /// Images of a folder are decoded when they are asked for; CIFAR files are read at once, after their size is
    /// checked to be a whole number of records and at most [`MAX_BINARY_BYTES`].
    pub fn open(path: &Path, classes: &[String]) -> Result<Self, DatasetError> {
        let name = path.display().to_string();
        let metadata = std::fs::metadata(path).map_err(|e| DatasetError::read(path, e))?;
        let source = if metadata.is_file() {
            Source::Cifar(cifar::Records::read(&[path.to_path_buf()], classes.len())?)
        } else if let Some(files) = cifar::binary_files(path)? {
            Source::Cifar(cifar::Records::read(&files, classes.len())?)
        } else {
            Source::Folder(folder::Files::list(path, classes)?)
        };
        Ok(Self { name, source })
    }

    /// For messages: the path it was opened from.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Images.
    pub fn len(&self) -> usize {
        match &self.source {
            Source::Memory { labels, .. } => labels.len(),
            Source::Cifar(records) => records.len(),
            Source::Folder(files) => files.len(),
        }
    }

    /// Whether it holds no image.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Class index of image `index`; `None` past the end.
    pub fn label(&self, index: usize) -> Option<u32> {
        match &self.source {
            Source::Memory { labels, .. } => labels.get(index).copied(),
            Source::Cifar(records) => records.label(index),
            Source::Folder(files) => files.label(index),
        }
    }

    /// Decodes image `index`, counted from 0 and below [`len`](Self::len).
    pub fn image(&self, index: usize) -> Result<Image, DatasetError> {
        let past_end = || DatasetError::PastEnd {
            name: self.name.clone(),
            index,
            len: self.len(),
        };
        match &self.source {
            Source::Memory { images, .. } => images.get(index).cloned().ok_or_else(past_end),
            Source::Cifar(records) => records.image(index).ok_or_else(past_end),
            Source::Folder(files) => files.image(index).unwrap_or_else(|| Err(past_end())),
        }
    }
}

/// Largest CIFAR binary file that is read: 1 GiB, thirty times a CIFAR-10 batch.
pub const MAX_BINARY_BYTES: u64 = 1 << 30;

/// Why a data set could not be used.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum DatasetError {
    /// The file or folder cannot be read.
    #[error("{}: cannot be read: {reason}", path.display())]
    Read {
        /// File or folder.
        path: PathBuf,
        /// As the system says.
        reason: std::io::Error,
    },
    /// A binary file whose size is not a whole number of records, or that is absurdly large.
    #[error("{}: {bytes} bytes; expected a CIFAR-10 binary file: 1 to {most} records of 3073 bytes", path.display())]
    Size {
        /// File.
        path: PathBuf,
        /// Its size.
        bytes: u64,
        /// Most records of a file.
        most: u64,
    },
    /// A label that the model has no class for.
    #[error("{}: record {record} has label {label}; expected a label below the model's {classes} classes", path.display())]
    Label {
        /// File.
        path: PathBuf,
        /// Counted from 0.
        record: usize,
        /// What it holds.
        label: u8,
        /// Of the model.
        classes: usize,
    },
    /// Class folders that do not correspond to the model's classes.
    #[error(
        "{}: {found} class folders, of which {unknown:?} is not one of the model's {classes} classes; \
         expected folders named after classes, or exactly {classes} of them in the classes' order",
        path.display()
    )]
    Classes {
        /// Folder.
        path: PathBuf,
        /// Class folders found.
        found: usize,
        /// The first folder whose name is no class.
        unknown: String,
        /// Of the model.
        classes: usize,
    },
    /// Nothing to measure on.
    #[error("{}: no image found; expected CIFAR-10 *.bin files, or class folders with .jpg, .png, .webp or .bmp files", path.display())]
    Empty {
        /// File or folder.
        path: PathBuf,
    },
    /// An image file of the set.
    #[error(transparent)]
    Image(#[from] ImageError),
    /// An index that the set does not have.
    #[error("{name}: image {index} of {len}")]
    PastEnd {
        /// Of the set.
        name: String,
        /// Asked for.
        index: usize,
        /// Images of the set.
        len: usize,
    },
}

impl DatasetError {
    fn read(path: &Path, reason: std::io::Error) -> Self {
        Self::Read {
            path: path.to_path_buf(),
            reason,
        }
    }
}

impl Classify for DatasetError {
    fn code(&self) -> u32 {
        match self {
            Self::Read { .. } => 150,
            Self::Size { .. } => 151,
            Self::Label { .. } => 152,
            Self::Classes { .. } => 153,
            Self::Empty { .. } => 154,
            Self::Image(e) => e.code(),
            Self::PastEnd { .. } => 155,
        }
    }
    fn can_retry(&self) -> bool {
        matches!(self, Self::Image(e) if e.can_retry())
    }
}
