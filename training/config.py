"""A recipe: everything that a training run is made of. Defaults live here; a recipe lists deviations."""

from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field, NonNegativeFloat, NonNegativeInt, PositiveInt, model_validator
from typing_extensions import Self

from hdmap_core.checkpoint import CheckpointConfig
from hdmap_core.config import Config
from training.data.masking import MaskingConfig
from training.data.point_orders import ClosedOrders
from training.distill.terms import DistillationTerm
from training.losses.auxiliary import AuxiliaryLossConfig
from training.losses.dense import DenseLossConfig

Ground = Literal["poses", "lidar"]


class DataConfig(Config):
    """Where keyframes come from.

    Attributes:
        root: a data set: a nuScenes folder, real or synthetic, frames of your own, or Argoverse 2 logs.
        more: further folders, whose `train` keyframes are trained on too; one that is named twice counts twice.
            Validation is of `root` alone.
        version: v1.0-mini, v1.0-trainval, frames.json ..., where the folder has several and the splits do not tell; of
            Argoverse 2 logs how many keyframes per second, `2hz` (when nothing is said), `10hz` ...
        train, val: names of splits.
        cache: where prepared keyframes lie; `<root>/cache` when empty.
        keep_inputs: keep what `preprocess` makes of the images too: quicker, but 7 MB per keyframe for six images of
            480 x 800. Without it every epoch decodes the images anew.
        keep_sources: keep what the sources of a distillation say of each keyframe, so that each runs once per keyframe
            and not once per step and run. Needs an augmentation that leaves what they see as it is.
        grounds: by what the cameras' ground is known: `poses` of the car, as without a LiDAR, or what the keyframe's
            `lidar` sweep shows of it, as with `--lidar-ground`. With both, every keyframe counts once with each;
            validation is with the first.
        reduced_decoding: decode images at half or a quarter of their size where the model's are not larger.
        workers: processes that prepare keyframes and make batches; 0 = one per core, for batches at most 16.
    """

    root: Path
    more: tuple[Path, ...] = ()
    version: Annotated[str, Field(pattern=r"^(v1\.0-(mini|trainval|test)|.+\.jsonl?|\d+(\.\d+)?hz)$")] | None = None
    train: str = "train"
    val: str = "val"
    cache: Path | None = None
    keep_inputs: bool = True
    keep_sources: bool = False
    grounds: Annotated[tuple[Ground, ...], Field(min_length=1)] = ("poses",)
    reduced_decoding: bool = True
    workers: NonNegativeInt = 0


Probability = Annotated[float, Field(ge=0, le=1)]


class AugmentConfig(Config):
    """Probabilities and strengths; every change but `corrupt` is exact for pixels and ground truth alike, 0 is off.

    Attributes:
        mirror: flip left and right.
        turn: turn by 180 degrees.
        blind: take a camera away (of ground pixels: hide a sector as wide).
        colour: strength of random gain, contrast and colour cast.
        corrupt: probability of a corruption of `hdmap evaluate`, any kind, severity 1 to 3 and what lies between, never
            with the seed of an evaluation. Images are decoded for it even where inputs are kept.
        rotate: turn the bird's-eye view by up to so many degrees to either side. Ground truth is cut anew from the map.
        shift: move the bird's-eye view by up to so many metres along x and y.
        zoom: resize each image by up to this share, larger or smaller, and crop or pad it at a random place.
        photometric: MapTR's distortion, on the device; 1 = as published, less scales its probabilities.
        grid_mask: probability of a grid mask, on the device; MapQR has 0.7.
        grid_mask_ratio: share of the mask's period that stays.
    """

    mirror: Probability = 0.5
    turn: Probability = 0.5
    blind: Probability = 0.1
    colour: NonNegativeFloat = 0.25
    corrupt: Probability = 0.0
    rotate: Annotated[float, Field(ge=0, le=180)] = 0.0
    shift: NonNegativeFloat = 0.0
    zoom: Annotated[float, Field(ge=0, lt=1)] = 0.0
    photometric: Probability = 0.0
    grid_mask: Probability = 0.0
    grid_mask_ratio: Probability = 0.5


class LossConfig(Config):
    """Weights of the terms (MapTR's for the vectors, section 4.1) and how targets are made.

    Attributes:
        one_to_many: factor on all terms of the one-to-many queries.
        repeats: how many of these each true element goes to.
        closed_orders: which point orders of a ring count as equal: `all`, or the `published` code's.
        auxiliary: weights of the heads that only training has.
        dense: of the dense heads.
        line_width: of lines in the masks, metres.
    """

    classes: float = 2.0
    points: float = 5.0
    direction: float = 0.005
    one_to_many: float = 1.0
    repeats: PositiveInt = 6
    closed_orders: ClosedOrders = "all"
    auxiliary: AuxiliaryLossConfig = AuxiliaryLossConfig()
    dense: DenseLossConfig = DenseLossConfig()
    mask_bce: float = 10.0
    mask_dice: float = 2.0
    mask_positive_weight: float = 3.0
    line_width: float = 0.45


class OptimConfig(Config):
    """AdamW with linear warm-up, then a cosine or steps down, over a fixed number of steps.

    Attributes:
        batch_size: samples of a step, over all processes and micro-batches.
        accumulate: micro-batches that a process makes of its share, one after the other, to need less memory.
        backbone_lr: factor on `lr` for a pretrained trunk.
        schedule: `cosine` ends at `lr * final_lr`; `step` multiplies by `gamma` at each of `milestones`.
        milestones: fractions of the run.
        clip_norm: longest gradient.
        ema: decay of the exponential moving average of the weights, which is what is saved and evaluated.
    """

    steps: PositiveInt = 10_000
    batch_size: PositiveInt = 8
    accumulate: PositiveInt = 1
    lr: float = 1.5e-3
    backbone_lr: float = 0.1
    weight_decay: float = 0.01
    schedule: Literal["cosine", "step"] = "cosine"
    final_lr: float = 0.01
    milestones: tuple[float, ...] = (0.7, 0.9)
    gamma: float = 0.1
    warmup_steps: NonNegativeInt = 200
    clip_norm: float = 10.0
    ema: float = 0.999
    precision: Literal["32-true", "16-mixed", "bf16-mixed"] = "32-true"


class InitialWeights(Config):
    """Checkpoints that a run starts from, each strict: what is named must be there, whole.

    Attributes:
        model: a run folder or file; all of its slots are taken, and must be slots of this model.
        lidar: of another model its LiDAR branch; or, for a simulated LiDAR, a camera model with lift-splat, whose
            backbone and view transform become the branch. Beside another view of the same cameras such a branch hardly
            learns from nothing.
        hd_refiner: a pre-trained refiner; only that slot is taken.
        narrower: instead of `model`, a run folder or file of the same network with fewer inputs, as a camera model for
            one that has LiDAR too: new inputs have zeros for weights, its slots that this model lacks are left out.
    """

    model: Path | None = None
    narrower: Path | None = None
    lidar: Path | None = None
    hd_refiner: Path | None = None

    @model_validator(mode="after")
    def _one_whole(self) -> "InitialWeights":
        if self.model is not None and self.narrower is not None:
            raise ValueError("model and narrower both fill the whole network; give one of them")
        return self


class TrainConfig(CheckpointConfig):
    """A whole recipe.

    Attributes:
        objective: how a batch becomes a loss: `supervised`; `masked_autoencoder` for a refiner by itself;
            `distillation`, which adds the terms of `distillation` to the supervised ones.
        sources: the models that teach, by the names that the terms use: run folders or files.
        distillation: what each of them teaches. A term of weight 0 is left out.
        masking: which parts of a map the masked autoencoder does not see.
        start: checkpoints of earlier stages.
        backbone_weights: what the backbone's trunk starts from: `hub` (timm's pretrained weights, downloaded),
            `efficientnet_lite0` to `2` (ImageNet weights, the extra `pretrained`), a .safetensors file, or `random`. A
            model without a backbone does not look at it.
        best_by: which score of the validations decides what `best.safetensors` is; mIoU is for dense heads.
        loggers: where figures and pictures go besides the run folder and its TensorBoard (the extra `loggers`).
    """

    data: DataConfig
    objective: Literal["supervised", "masked_autoencoder", "distillation"] = "supervised"
    sources: dict[str, Path] = Field(default_factory=dict)
    distillation: tuple[DistillationTerm, ...] = ()
    masking: MaskingConfig = MaskingConfig()
    start: InitialWeights = InitialWeights()
    backbone_weights: str = "hub"
    augment: AugmentConfig = AugmentConfig()
    loss: LossConfig = LossConfig()
    optim: OptimConfig = OptimConfig()
    seed: NonNegativeInt = 0
    log_every: PositiveInt = 25
    save_every: PositiveInt = 500
    evaluate_every: PositiveInt = 2000
    evaluate_frames: PositiveInt = 120
    best_by: Literal["mAP", "mIoU"] = "mAP"
    loggers: tuple[Literal["wandb", "mlflow"], ...] = ()

    @model_validator(mode="after")
    def _objective_fits_model(self) -> Self:
        if (self.objective == "masked_autoencoder") != self.model.is_refiner:
            raise ValueError(
                "objective masked_autoencoder and a model that is a refiner by itself (model.view_transform: null) "
                "belong together"
            )
        if self.best_by == "mIoU" and self.model.dense is None and self.model.hd_refiner is None:
            raise ValueError("best_by: mIoU needs the dense heads, whose score it is")
        if self.data.keep_sources and (self.data.more or len(self.data.grounds) > 1):
            raise ValueError("data.keep_sources is for one folder and ground; set it to false with more of them")
        return self

    @model_validator(mode="after")
    def _every_source_teaches(self) -> Self:
        if (self.objective == "distillation") != bool(self.distillation):
            raise ValueError("objective distillation and a list of terms in distillation belong together")
        if not self.distillation and self.sources:
            raise ValueError("sources teach nothing without objective: distillation and its terms")
        named = {term.source for term in self.distillation}
        for name in sorted(named - set(self.sources)):
            if any(term.weight for term in self.distillation if term.source == name):
                raise ValueError(f"distillation takes the source {name!r}; say which it is: sources.{name}=RUN")
        for name in sorted(set(self.sources) - named):
            raise ValueError(f"no term of distillation takes the source {name!r}; they take {', '.join(sorted(named))}")
        return self

    @model_validator(mode="after")
    def _sources_always_see_the_same(self) -> Self:
        moving = [name for name in ("mirror", "turn", "rotate", "shift") if getattr(self.augment, name)]
        if self.data.keep_sources and moving:
            raise ValueError(
                f"data.keep_sources keeps what the sources say of what the car saw, and augment.{', '.join(moving)} "
                "would show them something else; set to 0"
            )
        return self

    @model_validator(mode="after")
    def _augmentation_fits_grid(self) -> Self:
        grid, augment = self.model.grid, self.augment
        for name, probability, ranges in (
            ("mirror", augment.mirror, [grid.y_range]),
            ("turn", augment.turn, [grid.x_range, grid.y_range]),
        ):
            if probability > 0 and any(abs(low + high) > 1e-6 for low, high in ranges):
                raise ValueError(f"augment.{name} needs a grid that is symmetric about the car; set augment.{name}=0")
        if self.model.lidar_sweeps and (augment.turn or augment.rotate or augment.shift):
            raise ValueError(
                "augment.turn, rotate and shift would move the car's own LiDAR returns out of the box that the pillars "
                "leave out; set them to 0"
            )
        if self.model.is_refiner and augment.corrupt:
            raise ValueError("augment.corrupt is for models of cameras; set augment.corrupt=0")
        for name in ("zoom", "photometric", "grid_mask"):
            if self.model.image_backbone is None and getattr(augment, name):
                raise ValueError(f"augment.{name} is for models of images; set augment.{name}=0")
        return self
