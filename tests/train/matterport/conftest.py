import keras
import pytest


@pytest.fixture(scope="session")
def make_model(narrow_matterport):
    """Builds the model of `narrow_matterport` for some classes, with the random weights of a seed."""
    from pumpseg_train.model.network import build_mask_rcnn

    def make(classes=("apple", "pumpkin"), seed=0):
        keras.utils.set_random_seed(seed)
        return build_mask_rcnn(narrow_matterport, classes)

    return make


@pytest.fixture(scope="session")
def written(make_model, tmp_path_factory):
    """A model and the .h5 that `save_weights` wrote of it; neither is to be changed."""
    from pumpseg_train.matterport.weights_file import save_weights

    model = make_model(seed=1)
    path = tmp_path_factory.mktemp("weights") / "apple_pumpkin.h5"
    save_weights(model, path)
    return model, path
