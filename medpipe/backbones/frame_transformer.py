"""medpipe's vision transformer on frames: the encoder of volumes in patches of one slice, its tokens averaged."""

from pathlib import Path
from typing import final

from torch import Tensor, nn

from medpipe.backbones.options import VisionTransformerOptions
from medpipe.backbones.vision_transformer import VisionTransformerEncoder
from medpipe.geometry.faults import DataFault

PATCH = 16  # pixels of a side: 14 x 14 tokens of a frame of 224 x 224
HANDED_OVER = "encoder."  # what names begin with in a file of a whole network


@final
class FrameTransformer(nn.Module):
    """Images (B, 3, H, W), sides multiples of PATCH, to the mean of their tokens (B, width); sigmoid attention."""

    def __init__(self, options: VisionTransformerOptions) -> None:
        super().__init__()
        self.width = options.width
        one_slice = options.model_copy(update={"patch": (1, PATCH, PATCH)})
        self.encoder = VisionTransformerEncoder(one_slice, in_channels=3)

    def forward(self, images: Tensor) -> Tensor:
        return self.encoder(images[:, :, None]).mean(dim=(2, 3, 4))


def load_frame_transformer(path: Path, options: VisionTransformerOptions) -> FrameTransformer:
    """The network of a .safetensors file with the tensors of VisionTransformerEncoder, or of a network around it.

    Raises DataFault: no such file, not safetensors, or tensors that do not fit the size.
    """
    from safetensors.torch import load_file

    if not path.is_file():
        raise DataFault(path, "no such file; give a .safetensors file of the encoder's tensors")
    network = FrameTransformer(options)
    try:
        tensors = load_file(path)
        inner = {name.removeprefix(HANDED_OVER): t for name, t in tensors.items() if name.startswith(HANDED_OVER)}
        network.encoder.load_state_dict(inner or tensors)
    except Exception as error:
        raise DataFault(path, f"no weights of a vision transformer of size {options.size}: {error}") from None
    return network.eval()
