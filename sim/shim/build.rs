//! The linker settings of the shim: fixed at the end of the 32-bit address space.

fn main() {
    freestanding::link::image("image.ld", freestanding::link::Placement::Fixed);
}
