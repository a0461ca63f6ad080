//! The WebGPU backend: hand-written WGSL on Vulkan, Metal or DirectX 12.
