// Files that Keras 2, Keras 3 and the h5py of their day wrote, in every spelling (keras_files.py): each predicts what
// tfjs-layers predicts from the plainest of them, evaluates to the same loss, and is a place to train on from.
import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import fs from 'node:fs';
import { fileURLToPath } from 'node:url';
import { difference, h5, predict, readModel, readOutputs } from './read_keras.mjs';
import { check, finish, must, run, writeData, writeJob } from './lockstep.mjs';

const TOLERANCE = 1e-5;
const MODELS = {
    cnn: { data: { x: { shape: [8, 8, 2] }, y: { shape: [3] } }, output: 'scores' },
    text: { data: { x: { shape: [7], classes: 9 }, y: { shape: [2] } }, output: 'verdict' },
    branches: { data: { left: { shape: [4] }, right: { shape: [4] }, y: { shape: [2] } }, output: 'out' },
};

// Spellings of the configuration.
const CONFIGURED = /__keras|no_versions|short_nodes|encodings|optimizer|weights_only/;

// Debian's Python, which has Debian's h5py.
const made = spawnSync('/usr/bin/python3', [fileURLToPath(new URL('keras_files.py', import.meta.url)), '.'], {
    encoding: 'utf8',
});
if (made.status !== 0) {
    console.error(`keras_files.py failed: ${made.stderr}`);
    process.exit(1);
}

function targets(model) {
    const f = new h5.File(`${model}.h5`, 'r');
    const y = f.get('train/y').value;
    f.close();
    return y;
}

const meanSquare = (a, b) => a.reduce((sum, v, i) => sum + (v - b[i]) ** 2, 0) / a.length;

function outputOf(file, model, data = `${model}.h5`) {
    must('predict', file, '--data', `${data}:/train`, '--out', 'out.h5');
    return readOutputs('out.h5', [MODELS[model].output])[0];
}

// With a learning rate of 0 the weights stay what they were; moving statistics move, so they are not compared.
function trainOn(job) {
    const optimizer = { class_name: 'SGD', config: { learning_rate: 0 } };
    writeJob('job.json', { compile: { loss: 'mse', optimizer }, ...job });
    fs.rmSync('run', { recursive: true, force: true });
    must('train', 'job.json', '--run-dir', 'run', '--quiet');
    return must('checkpoint', 'digest', 'run/final.h5');
}

for (const [model, { data }] of Object.entries(MODELS)) {
    writeData(`${model}.h5`, data, 19, 5);
    const reference = predict(await readModel(`${model}__keras2.h5`), `${model}.h5`, '/train')[0];
    const loss = meanSquare(reference.data, targets(model));
    const first = `${model}__keras2.h5`;
    const start = trainOn({ model: first, data: { train: `${model}.h5:/train` } });

    // How strings and arrays are stored is nothing to a model: one of them goes through all of it.
    const files = fs.readdirSync('.').filter((f) => f.startsWith(`${model}__`) && (model === 'cnn' || CONFIGURED.test(f)));
    for (const file of files.filter((f) => !f.includes('weights_only'))) {
        await check(`${file} predicts`, () => {
            const worst = difference(outputOf(file, model), reference);
            assert.ok(worst <= TOLERANCE, `differs by ${worst}`);
            return worst.toExponential(1);
        });
        await check(`${file} trains on`, () => {
            assert.equal(trainOn({ model: file, data: { train: `${model}.h5:/train` } }), start);
        });
    }
    for (const file of files.filter((f) => /weights_only|__keras[23].h5|in_parts/.test(f))) {
        await check(`${file} gives its weights`, () => {
            assert.equal(trainOn({ model: first, weights: file, data: { train: `${model}.h5:/train` } }), start);
        });
    }
    for (const file of [first, `${model}__keras3.h5`, `${model}__optimizer_weights.h5`]) {
        await check(`${file} evaluates`, () => {
            const told = JSON.parse(must('evaluate', file, '--data', `${model}.h5:/train`, '--json'));
            assert.ok(Math.abs(told.loss - loss) <= TOLERANCE * loss, `loss ${told.loss}, not ${loss}`);
        });
    }
}

await check('what was trained on from a file predicts as the file', () => {
    trainOn({ model: 'branches__keras3.h5', data: { train: 'branches.h5:/train' } });
    const worst = difference(outputOf('run', 'branches'), outputOf('branches__keras2.h5', 'branches'));
    assert.equal(worst, 0);
});

// What does not fit is refused before anything is made, in one sentence.
const refusals = [
    ['fewer layers', { model: 'cnn__keras2.h5', weights: 'branches__keras2.h5' }, 'cnn',
        'branches__keras2.h5: holds weights of 2 layers; the model has 3 layers with weights'],
    ['another shape', { model: 'narrow.json', weights: 'branches__keras2.h5' }, 'branches',
        '"out/kernel:0" of layer "out" has the shape (12, 2) where "out/kernel:0" of the model\'s layer "out" has (12, 3)'],
    ['another number of weights', { model: 'no_bias.json', weights: 'branches__keras2.h5' }, 'branches',
        'its layer "out" has 2 weights where the model\'s layer "out" has 1'],
    ['weights as a model', { model: 'cnn__weights_only.h5' }, 'cnn', 'holds weights only'],
    ['no such file', { model: 'cnn__keras2.h5', weights: 'none.h5' }, 'cnn', 'none.h5: '],
    ['.weights.h5', { model: 'cnn__keras2.h5', weights: 'keras3_new.weights.h5' }, 'cnn', '.weights.h5 of Keras 3'],
];
const f = new h5.File('branches__keras2.h5', 'r');
const branches = f.attrs.model_config.value;
f.close();
for (const [file, key, value] of [['narrow.json', 'units', 3], ['no_bias.json', 'use_bias', false]]) {
    const config = JSON.parse(branches);
    config.config.layers.at(-1).config[key] = value;
    fs.writeFileSync(file, JSON.stringify(config));
}
writeData('three.h5', { left: { shape: [4] }, right: { shape: [4] }, y: { shape: [3] } }, 9);
for (const [name, job, model, sentence] of refusals) {
    await check(`refused: ${name}`, () => {
        const data = job.model === 'narrow.json' ? 'three.h5' : `${model}.h5`;
        writeJob('job.json', { ...job, data: { train: `${data}:/train` } });
        const done = run('train', 'job.json', '--run-dir', 'refused');
        assert.equal(done.code, 2, done.text);
        assert.ok(done.text.includes(sentence), done.text);
        assert.ok(!fs.existsSync('refused'), 'a run folder was made');
    });
}
finish();
