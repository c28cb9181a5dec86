//! Operations with frozen operands, and the seed of a backward pass, so that candle's tape holds trainable tensors only.
//!
//! candle's own binary operations and products compute the gradients of both operands, needed or not, and keep those of
//! untracked leaves until the end. For frozen weights, masks and rotation angles that doubles the arithmetic and copies
//! every weight. Here the frozen operand is part of the operation, so the tape has one operand only. Everything runs on
//! the tensor's own device.

use candle_core::{
    CpuStorage, CudaStorage, CustomOp1, Error, Layout, MetalStorage, Result, Shape, Storage, Tensor,
    backend::{BackendDevice, BackendStorage},
    op,
};

use crate::weight::Weight;

/// `x + c`, `c` broadcast to x's shape; the gradient passes unchanged.
pub(crate) fn add(x: &Tensor, constant: &Tensor) -> Result<Tensor> {
    x.apply_op1(Frozen::Add(constant.detach()))
}

/// `x ⊙ c`, `c` broadcast to x's shape; the gradient is `dy ⊙ c`.
pub(crate) fn multiply(x: &Tensor, constant: &Tensor) -> Result<Tensor> {
    x.apply_op1(Frozen::Multiply(constant.detach()))
}

/// `x·Wᵀ` for `x [t, in]`, `W [out, in]`; the gradient is `dy·W`, and a compressed `W` is decoded again for it.
pub(crate) fn linear(x: &Tensor, weight: &Weight) -> Result<Tensor> {
    x.apply_op1(Frozen::Linear(weight.clone()))
}

enum Frozen {
    Add(Tensor),
    Multiply(Tensor),
    Linear(Weight),
}

impl Frozen {
    /// The operand as the forward pass reads it, for an input of this shape.
    fn operand(&self, shape: &Shape) -> Result<Tensor> {
        match self {
            Self::Add(constant) | Self::Multiply(constant) => constant.broadcast_as(shape),
            Self::Linear(weight) => weight.decode()?.t(),
        }
    }

    fn compute<S: BackendStorage>(&self, x: (&S, &Layout), operand: (&S, &Layout)) -> Result<(S, Shape)> {
        let shape = x.1.shape();
        match self {
            Self::Add(_) => Ok((x.0.binary_impl::<op::Add>(operand.0, x.1, operand.1)?, shape.clone())),
            Self::Multiply(_) => Ok((x.0.binary_impl::<op::Mul>(operand.0, x.1, operand.1)?, shape.clone())),
            Self::Linear(_) => {
                let ((count, width), (input, output)) = (shape.dims2()?, operand.1.shape().dims2()?);
                if width != input {
                    return Err(Error::ShapeMismatchBinaryOp {
                        lhs: shape.clone(),
                        rhs: operand.1.shape().clone(),
                        op: "frozen-linear",
                    });
                }
                let y = x.0.matmul(operand.0, (1, count, output, input), x.1, operand.1)?;
                Ok((y, Shape::from((count, output))))
            }
        }
    }

    fn elsewhere(&self, x: &impl BackendStorage, operand: &Tensor) -> Error {
        Error::DeviceMismatchBinaryOp {
            lhs: x.device().location(),
            rhs: operand.device().location(),
            op: self.name(),
        }
    }
}

impl CustomOp1 for Frozen {
    fn name(&self) -> &'static str {
        match self {
            Self::Add(_) => "frozen-add",
            Self::Multiply(_) => "frozen-multiply",
            Self::Linear(_) => "frozen-linear",
        }
    }

    fn cpu_fwd(&self, x: &CpuStorage, layout: &Layout) -> Result<(CpuStorage, Shape)> {
        let operand = self.operand(layout.shape())?;
        let (storage, operand_layout) = operand.storage_and_layout();
        match &*storage {
            Storage::Cpu(storage) => self.compute((x, layout), (storage, operand_layout)),
            _ => Err(self.elsewhere(x, &operand)),
        }
    }

    fn cuda_fwd(&self, x: &CudaStorage, layout: &Layout) -> Result<(CudaStorage, Shape)> {
        let operand = self.operand(layout.shape())?;
        let (storage, operand_layout) = operand.storage_and_layout();
        match &*storage {
            Storage::Cuda(storage) => self.compute((x, layout), (storage, operand_layout)),
            _ => Err(self.elsewhere(x, &operand)),
        }
    }

    fn metal_fwd(&self, x: &MetalStorage, layout: &Layout) -> Result<(MetalStorage, Shape)> {
        let operand = self.operand(layout.shape())?;
        let (storage, operand_layout) = operand.storage_and_layout();
        match &*storage {
            Storage::Metal(storage) => self.compute((x, layout), (storage, operand_layout)),
            _ => Err(self.elsewhere(x, &operand)),
        }
    }

    fn bwd(&self, _x: &Tensor, _y: &Tensor, dy: &Tensor) -> Result<Option<Tensor>> {
        match self {
            Self::Add(_) => Ok(Some(dy.clone())),
            Self::Multiply(constant) => Ok(Some(dy.broadcast_mul(constant)?)),
            Self::Linear(weight) => Ok(Some(dy.matmul(&weight.decode()?)?)),
        }
    }
}

/// A scalar whose backward pass starts at `y` with the gradient `dy`: candle's `backward` takes no seed.
pub(crate) fn seeded(y: &Tensor, dy: &Tensor) -> Result<Tensor> {
    y.apply_op1(Seed(dy.detach()))
}

struct Seed(Tensor);

/// A zero of shape `[]`; only its place on the tape matters.
fn scalar<S: BackendStorage>(like: &S) -> Result<(S, Shape)>
where
    S::Device: BackendDevice<Storage = S>,
{
    let shape = Shape::from(());
    Ok((like.device().zeros_impl(&shape, like.dtype())?, shape))
}

impl CustomOp1 for Seed {
    fn name(&self) -> &'static str {
        "seed"
    }

    fn cpu_fwd(&self, y: &CpuStorage, _: &Layout) -> Result<(CpuStorage, Shape)> {
        scalar(y)
    }

    fn cuda_fwd(&self, y: &CudaStorage, _: &Layout) -> Result<(CudaStorage, Shape)> {
        scalar(y)
    }

    fn metal_fwd(&self, y: &MetalStorage, _: &Layout) -> Result<(MetalStorage, Shape)> {
        scalar(y)
    }

    fn bwd(&self, _y: &Tensor, _: &Tensor, _: &Tensor) -> Result<Option<Tensor>> {
        Ok(Some(self.0.clone()))
    }
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "a failing test may panic")]

    use candle_core::{Device, Var};

    use super::*;

    #[test]
    fn gradients_are_those_of_candles_own_operations_and_nothing_else_is_kept() {
        let device = &Device::Cpu;
        let x = Var::randn(0f32, 1.0, (5, 3), device).unwrap();
        let (row, weight) = (
            Tensor::randn(0f32, 1.0, 3, device).unwrap(),
            Tensor::randn(0f32, 1.0, (4, 3), device).unwrap(),
        );
        let dy = Tensor::randn(0f32, 1.0, (5, 4), device).unwrap();

        let ours = add(&multiply(&x, &row).unwrap(), &row).unwrap();
        let ours = linear(&ours, &Weight::Dense(weight.clone())).unwrap();
        let store = seeded(&ours, &dy).unwrap().backward().unwrap();
        assert_eq!(store.get_ids().collect::<Vec<_>>(), [&x.id()]);

        let theirs = x
            .broadcast_mul(&row)
            .unwrap()
            .broadcast_add(&row)
            .unwrap()
            .matmul(&weight.t().unwrap())
            .unwrap();
        let want = (&theirs * &dy).unwrap().sum_all().unwrap().backward().unwrap();
        let difference = |a: &Tensor, b: &Tensor| {
            (a - b)
                .unwrap()
                .abs()
                .unwrap()
                .max_all()
                .unwrap()
                .to_scalar::<f32>()
                .unwrap()
        };
        assert!(difference(&ours, &theirs) < 1e-6);
        assert!(difference(store.get(&x).unwrap(), want.get(&x).unwrap()) < 1e-6);
    }

    #[test]
    fn a_weight_of_the_wrong_width_is_refused() {
        let x = Tensor::zeros((2, 3), candle_core::DType::F32, &Device::Cpu).unwrap();
        let weight = Weight::Dense(Tensor::zeros((4, 5), candle_core::DType::F32, &Device::Cpu).unwrap());
        assert!(linear(&x, &weight).is_err());
    }
}
