//! The linker settings of the image: position-independent, loaded by td-shim.

use freestanding::link::{Placement, image};

fn main() {
    image("image.ld", Placement::Relocatable);
}
