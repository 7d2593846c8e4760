// `lockstep generate` against tfjs-layers: the likeliest characters one by one, from the same checkpoint and seed text,
// and how often characters are drawn at several temperatures.
import assert from 'node:assert/strict';
import fs from 'node:fs';
import { h5, readModel, tf } from './read_keras.mjs';
import { check, finish, must, random, writeJob } from './lockstep.mjs';

const WINDOW = 12;
const LICENCE = '/usr/share/common-licenses/GPL-3';

function sequential(name, classes, layers) {
    const first = { name: 'letters', batch_input_shape: [null, WINDOW], input_dim: classes, output_dim: 12 };
    const last = { name: 'scores', units: classes, activation: 'softmax' };
    return {
        class_name: 'Sequential',
        config: {
            name,
            layers: [
                { class_name: 'Embedding', config: { ...first, ...(layers.length === 0 ? nothing : {}) } },
                ...layers,
                { class_name: 'Dense', config: last },
            ],
        },
    };
}

// An embedding that says nothing, so that the model learns how frequent the characters are.
const nothing = { trainable: false, embeddings_initializer: { class_name: 'Zeros', config: {} } };

function train(name, text, layers, epochs) {
    fs.writeFileSync(`${name}.txt`, text);
    must('data', 'import', 'text', `${name}.h5`, `${name}.txt`, '--window', String(WINDOW), '--stride', '5');
    const f = new h5.File(`${name}.h5`, 'r');
    const vocabulary = JSON.parse(f.attrs.vocabulary.value);
    f.close();
    const optimizer = { class_name: 'Adam', config: { learning_rate: 0.02 } };
    writeJob(`${name}.json`, {
        model: sequential(name, vocabulary.length, layers),
        data: { train: `${name}.h5:/train` },
        compile: { loss: 'sparse_categorical_crossentropy', optimizer },
        fit: { batch_size: 32, epochs, seed: 2 },
    });
    must('train', `${name}.json`, '--run-dir', name, '--quiet');
    return vocabulary;
}

// What the model says after the text, by tfjs.
function ask(model, vocabulary, text) {
    const known = [...text].slice(-WINDOW).map((c) => vocabulary.indexOf(c));
    const tokens = new Float32Array(WINDOW);
    tokens.set(known);
    const out = model.predict(tf.tensor(tokens, [1, WINDOW])).dataSync();
    return out.slice((known.length - 1) * vocabulary.length, known.length * vocabulary.length);
}

const generate = (name, ...rest) => must('generate', name, ...rest).slice(0, -1); // less the end of the line

await check('the likeliest characters', async () => {
    const text = fs.readFileSync(LICENCE, 'utf8').slice(0, 4000);
    const lstm = { name: 'memory', units: 24, recurrent_activation: 'sigmoid', return_sequences: true };
    const vocabulary = train('letters', text, [{ class_name: 'LSTM', config: lstm }], 12);
    const model = await readModel('letters/final.h5');
    let told = 'The';
    for (let i = 0; i < 50; i++) {
        const p = ask(model, vocabulary, told);
        told += vocabulary[p.indexOf(Math.max(...p))];
    }
    const ours = generate('letters', '--seed-text', 'The', '--length', '50', '--temperature', '0');
    assert.equal(ours, told);
    return JSON.stringify(ours);
});

await check('the frequency of characters', async () => {
    const draw = random(11);
    const text = Array.from({ length: 4000 }, () => 'aaaabbcdé'[Math.floor(9 * draw())]).join('');
    const vocabulary = train('frequencies', text, [], 12);
    const model = await readModel('frequencies/final.h5');
    const p = ask(model, vocabulary, 'a');
    const n = 20000;
    const notes = [];
    for (const temperature of [0.5, 1, 2]) {
        const drawn = [...generate('frequencies', '--seed-text', 'a', '--length', String(n), '--temperature', String(temperature), '--stateful')].slice(1);
        assert.equal(drawn.length, n);
        const sharpened = Array.from(p, (v) => v ** (1 / temperature));
        const sum = sharpened.reduce((a, b) => a + b);
        let worst = 0;
        vocabulary.forEach((c, i) => {
            const expected = sharpened[i] / sum;
            const found = drawn.filter((d) => d === c).length / n;
            worst = Math.max(worst, Math.abs(found - expected) / Math.sqrt((expected * (1 - expected)) / n));
        });
        assert.ok(worst < 4.5, `temperature ${temperature}: ${worst} standard deviations away`);
        notes.push(worst.toFixed(1));
    }
    return `${notes.join(', ')} standard deviations at most`;
});
finish();
