//! Wrong programs and what they are told: the op, the shapes, the place in the model, what to do.

use gradus::prelude::*;

struct Net {
    conv1: Conv2d,
    fc1: Linear,
    fc2: Linear,
}
module!(Net { conv1, fc1, fc2 });

struct Outer {
    body: Net,
}
module!(Outer { body });

fn net(features: usize) -> Result<Outer> {
    let mut init = Init::new(0);
    Ok(Outer {
        body: Net {
            conv1: Conv2d::new(3, 4, 3, &mut init)?,
            fc1: Linear::new(features, 8, &mut init)?,
            fc2: Linear::new(8, 2, &mut init)?,
        },
    })
}

impl Forward for Outer {
    fn forward(&self, x: &Var) -> Result<Var> {
        let x = self.body.conv1.forward(x)?.relu()?.flatten(1)?;
        self.body.fc2.forward(&self.body.fc1.forward(&x)?.relu()?)
    }
}

fn images(shape: [usize; 4]) -> Result<Var> {
    Ok(Tensor::ones(shape, &Device::cpu())?.into())
}

/// Asserts that a message has all the parts.
fn told(result: Result<impl std::fmt::Debug>, parts: &[&str]) {
    let message = result.expect_err("the program is wrong").to_string();
    for part in parts {
        assert!(message.contains(part), "{part:?} is missing from {message:?}");
    }
    assert!(!message.contains('\n'), "{message:?} is more than a line");
}

#[test]
fn a_wrong_flatten_size_names_the_layer_and_both_sizes() -> Result<()> {
    let model = net(100)?;
    told(model.forward(&images([2, 3, 8, 8])?), &["linear", "144", "100", "Linear with weight [8, 100]"]);
    // Once anything has visited the model, the layer is known by its path.
    model.eval();
    told(
        model.forward(&images([2, 3, 8, 8])?),
        &["linear", "[2, 144]", "[8, 100]", "body.fc1", "144 features"],
    );
    Ok(())
}

#[test]
fn wrong_channels_dtypes_and_devices_are_named() -> Result<()> {
    let model = net(144)?;
    model.train();
    told(model.forward(&images([2, 8, 8, 3])?), &["conv2d", "[2, 8, 8, 3]", "channels-last", "body.conv1"]);
    told(model.forward(&images([2, 1, 8, 8])?), &["conv2d", "1 channels", "expects 3", "body.conv1"]);
    let doubles = Tensor::ones([2, 3, 8, 8], (DType::F64, &Device::cpu()))?;
    told(model.forward(&doubles.into()), &["conv2d", "float64", "float32", "to_dtype", "body.conv1"]);
    told(model.forward(&images([2, 3, 2, 2])?), &["conv2d", "[2, 3, 2, 2]", "window of 3", "body.conv1"]);
    told(gradus::device("cuda:0"), &["no CUDA device"]);
    told(gradus::device("cpu:x"), &["cpu:x"]);
    Ok(())
}

#[test]
fn a_missing_gradient_names_the_parameter_and_the_op_that_cut_it_off() -> Result<()> {
    let model = net(144)?;
    let mut sgd = Sgd::new(&model, SgdConfig { lr: 0.1, ..Default::default() })?;
    let labels = Tensor::from_slice(&[0i64, 1], [2], &Device::cpu())?;
    let x = images([2, 3, 8, 8])?;
    let hidden = model.body.fc1.forward(&model.body.conv1.forward(&x)?.relu()?.flatten(1)?)?;
    let loss = model.body.fc2.forward(&hidden.detach())?.cross_entropy(&labels)?;
    let before = gradus::nn::state::save_to_bytes(&model)?;
    told(sgd.step(&loss.backward()?), &["body.", "no gradient", "detach", "freeze"]);
    assert!(gradus::nn::state::save_to_bytes(&model)? == before, "a step that fails changes nothing");
    // Freezing on purpose is the way to train a part.
    model.body.conv1.freeze();
    model.body.fc1.freeze();
    let loss = model.forward(&x)?.cross_entropy(&labels)?;
    sgd.step(&loss.backward()?)
}

#[test]
fn wrong_labels_are_named() -> Result<()> {
    let logits = Var::from(Tensor::ones([2, 3], &Device::cpu())?);
    let labels = |v: &[i64]| Tensor::from_slice(v, [v.len()], &Device::cpu());
    told(logits.cross_entropy(&labels(&[0, 3])?), &["cross_entropy", "class 3", "3 classes"]);
    told(logits.cross_entropy(&labels(&[0, 1, 2])?), &["cross_entropy", "[2, 3]", "[3]"]);
    told(logits.cross_entropy(&labels(&[0, 1])?.to_dtype(DType::U8)?), &["cross_entropy", "uint8", "int64"]);
    Ok(())
}

#[test]
fn a_state_file_of_another_model_names_what_does_not_fit() -> Result<()> {
    let folder = std::env::temp_dir().join(format!("gradus-messages-{}", std::process::id()));
    std::fs::create_dir_all(&folder).expect("a folder for the test");
    let path = folder.join("net.safetensors");
    gradus::save(&net(144)?, &path)?;
    told(gradus::load(&net(100)?, &path), &["net.safetensors", "body.fc1.weight", "[8, 144]", "[8, 100]"]);
    let inner = net(144)?.body;
    told(gradus::load(&inner, &path), &["net.safetensors", "conv1.weight"]);
    told(gradus::load(&inner, folder.join("absent.safetensors")), &["absent.safetensors"]);
    std::fs::remove_dir_all(&folder).expect("the folder of the test");
    Ok(())
}
