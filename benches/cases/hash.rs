//! Numbers from an integer hash: weights and inputs that every peer and every machine makes alike.

/// A stream of its own for each name: FNV-1a.
pub fn seed(name: &str) -> u32 {
    name.bytes().fold(0x811c_9dc5, |h, b| {
        (h ^ u32::from(b)).wrapping_mul(0x0100_0193)
    })
}

/// Element `i` of stream `seed`: 32 well-mixed bits (murmur3's finaliser).
pub fn bits(seed: u32, i: u32) -> u32 {
    let mut h = seed ^ i.wrapping_mul(0x9e37_79b9);
    h = (h ^ (h >> 16)).wrapping_mul(0x85eb_ca6b);
    h = (h ^ (h >> 13)).wrapping_mul(0xc2b2_ae35);
    h ^ (h >> 16)
}

/// `len` numbers in `0..1`, exact in f32.
pub fn units(seed: u32, len: usize) -> Vec<f32> {
    (0..len)
        .map(|i| (bits(seed, i as u32) >> 8) as f32 / (1 << 24) as f32)
        .collect()
}

/// `len` numbers in `-bound..bound`.
pub fn symmetric(seed: u32, len: usize, bound: f32) -> Vec<f32> {
    units(seed, len)
        .into_iter()
        .map(|u| (2.0 * u - 1.0) * bound)
        .collect()
}

/// `len` bytes that vary slowly over an image's pixels, with some noise, so that resizing has something to smooth.
pub fn pixels(seed: u32, width: usize, height: usize) -> Vec<u8> {
    let mut rgb = Vec::with_capacity(width * height * 3);
    for y in 0..height {
        for x in 0..width {
            for c in 0..3 {
                let noise = bits(seed, ((y * width + x) * 3 + c) as u32) % 64;
                rgb.push((((x * (c + 1) + y * (3 - c)) / 4 % 192) as u32 + noise) as u8);
            }
        }
    }
    rgb
}
