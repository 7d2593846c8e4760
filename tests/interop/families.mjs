// families.mjs [FAMILY...]: trains each model family for two epochs, and compares what `lockstep predict` says with what
// tfjs-layers says from the same file, to 1e-5 of the largest value. The files must keep to what Keras 2 and Keras 3
// both read. Then the models of deploy/models: both count the same parameters.
import assert from 'node:assert/strict';
import fs from 'node:fs';
import path from 'node:path';
import { fileURLToPath } from 'node:url';
import { families } from './models.mjs';
import { buildModel, difference, h5, names, predict, readModel, readOutputs } from './read_keras.mjs';
import { check, finish, must, writeData, writeJob } from './lockstep.mjs';

const TOLERANCE = 1e-5;
const ENUM_STRING = 3;
const NULL_PADDED = 1;

// Keys that Keras 3 refuses in some classes.
const REFUSED = {
    DepthwiseConv2D: ['groups'],
    SeparableConv2D: ['groups', 'kernel_initializer', 'kernel_regularizer', 'kernel_constraint'],
    Conv2DTranspose: ['groups'],
    LSTM: ['time_major'],
    GRU: ['time_major'],
    SimpleRNN: ['time_major'],
    SpatialDropout2D: ['trainable', 'noise_shape'],
};

function checkLayers(config, nested) {
    const first = config.config.layers[0];
    assert.equal(first.class_name, 'InputLayer', `${config.config.name} begins with ${first.class_name}`);
    assert.ok(first.config.batch_input_shape, 'an InputLayer without batch_input_shape');
    for (const l of config.config.layers) {
        for (const key of REFUSED[l.class_name] ?? []) {
            assert.ok(!(key in l.config), `${l.class_name} has the key ${key}`);
        }
        if (l.config.layers) {
            checkLayers(l, true);
        }
    }
    assert.ok(nested || config.keras_version === undefined || config.keras_version.startsWith('2.'));
}

function checkNames(object, name, where) {
    const attr = object.attrs[name];
    assert.ok(attr !== undefined, `${where} lacks ${name}`);
    if (attr.shape[0] === 0) {
        return;
    }
    assert.equal(attr.metadata.type, ENUM_STRING, `${name} of ${where} is no string`);
    assert.equal(attr.metadata.vlen, false, `${name} of ${where} has variable length`);
    assert.equal(attr.metadata.strpad, NULL_PADDED, `${name} of ${where} is not null-padded`);
}

// What keeps a file readable for both.
export function checkRecipe(file) {
    const f = new h5.File(file, 'r');
    assert.ok(f.attrs.keras_version.value.startsWith('2.'));
    assert.equal(f.attrs.model_config.metadata.vlen, true, 'model_config has fixed length');
    assert.equal(f.get('optimizer_weights'), null, 'there is /optimizer_weights');
    const training = JSON.parse(f.attrs.training_config.value);
    assert.ok('loss_weights' in training, 'training_config lacks loss_weights');
    for (const key of ['jit_compile', 'is_legacy_optimizer']) {
        assert.ok(!(key in training.optimizer_config.config), `optimizer_config has ${key}`);
    }
    const config = JSON.parse(f.attrs.model_config.value);
    checkLayers(config, false);
    const weights = f.get('model_weights');
    checkNames(weights, 'layer_names', '/model_weights');
    for (const name of names(weights, 'layer_names')) {
        checkNames(weights.get(name), 'weight_names', name);
        for (const weight of names(weights.get(name), 'weight_names')) {
            const set = weights.get(name).get(weight);
            assert.equal(set.dtype, '<f', `${weight} is ${set.dtype}`); // little-endian float32
            assert.ok(weight.endsWith(':0'), `${weight} does not end with :0`);
        }
    }
    checkNames(weights.get('top_level_model_weights'), 'weight_names', 'top_level_model_weights');
    f.close();
}

function layerNames(file) {
    const f = new h5.File(file, 'r');
    const found = names(f.get('model_weights'), 'layer_names');
    f.close();
    return found;
}

async function checkFamily(name) {
    const { model, data, compile } = families[name];
    fs.mkdirSync(name);
    process.chdir(name);
    try {
        writeData('data.h5', data, 21);
        const optimizer = { class_name: 'Adam', config: { learning_rate: 0.01 } };
        writeJob('job.json', { model, compile: { loss: 'mse', optimizer, ...compile } });
        must('train', 'job.json', '--run-dir', 'run', '--quiet');
        must('predict', 'run', '--data', 'data.h5:/train', '--out', 'out.h5');
        checkRecipe('run/final.h5');
        const read = await readModel('run/final.h5');
        const built = read.layers.map((l) => l.name).filter((n, i) => i > 0 || model.class_name !== 'Sequential');
        assert.deepEqual(layerNames('run/final.h5'), built);
        const theirs = predict(read, 'data.h5', '/train');
        const outputs = model.config.output_layers?.map(([n]) => n) ?? ['output'];
        const ours = readOutputs('out.h5', outputs);
        assert.equal(ours.length, theirs.length);
        const worst = Math.max(...theirs.map((t, i) => difference(ours[i], t)));
        assert.ok(worst <= TOLERANCE, `differs by ${worst}`);
        return worst.toExponential(1);
    } finally {
        process.chdir('..');
    }
}

const wanted = process.argv.slice(2);
for (const name of wanted.length > 0 ? wanted : Object.keys(families)) {
    await check(name, () => checkFamily(name));
}
if (wanted.length === 0) {
    const folder = fileURLToPath(new URL('../../deploy/models/', import.meta.url));
    for (const file of fs.readdirSync(folder).filter((f) => f.endsWith('.json'))) {
        await check(`${file} has as many parameters`, async () => {
            const read = await buildModel(JSON.parse(fs.readFileSync(path.join(folder, file), 'utf8')));
            const [, total] = must('summary', path.join(folder, file)).match(/^Total params: ([0-9,]+)/m);
            assert.equal(Number(total.replaceAll(',', '')), read.countParams());
            read.dispose();
            return total;
        });
    }
}
finish();
