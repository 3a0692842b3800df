//! Links the simulator as a fixed image that QEMU starts through its PVH note.

fn main() {
    freestanding::link::image("image.ld", freestanding::link::Placement::Fixed);
}
